"""The main job on one machine: list a source, label what is new in it, watch until it is done.

Servers are started when the first chunk is there to be done, and not at all where nothing is.
"""

from __future__ import annotations

from collections.abc import Collection

from tagmill.chunk_sizes import RETRY_CHUNK_ITEMS
from tagmill.contract import BY_HAND, NEARLY_ALL_FAILED, ErrorCode, JobState
from tagmill.embedded import Servers
from tagmill.enqueue import begun, enqueue
from tagmill.errors import JobPaused, UsageError
from tagmill.registry import ModelVersion
from tagmill.settings import Settings
from tagmill.sources import Selection, Source, default_roots, readable
from tagmill.store import Job, Store
from tagmill.store.jobs import BREAKER_OUTCOMES
from tagmill.watch import Feed, Watcher, watch_to_end

STALL_S = 10.0
"""Without a commit for that long, lanes are reminded of the chunks that they could take."""

_NOT_TO_RETRY = {
    JobState.LISTING: "was not listed to its end",
    JobState.CANCELLED: "was cancelled",
    JobState.SUPERSEDED: "was interrupted, and a later run went on",
}


def label_source(
    source: Source,
    *,
    settings: Settings,
    store: Store,
    servers: Servers,
    model: ModelVersion,
    top_k: int,
    again: bool,
    keep_going: bool,
    selection: Selection,
    watch: Watcher,
) -> Job:
    """Label what is new or changed in a source.

    An earlier run of the same request that did not end is superseded: its outcomes stand, the
    rest is listed anew, so that changes since then are seen too.

    Returns:
        The job, ended.

    Raises:
        SourceError: if the source cannot be read or has no images.
        JobPaused: if nearly all of its first items failed, or its model cannot be loaded.
        StoreError, BrokerError, WorkerStopped: what went wrong; running it again goes on.
    """
    found = begun(source)
    earlier = store.jobs.unfinished(
        source=source.name,
        model=str(model),
        top_k=top_k,
        include=selection.include,
        exclude=selection.exclude,
    )
    fresh_since: float | None = 0.0
    if again:
        # A run with --again that was interrupted goes on, instead of beginning yet again.
        fresh_since = min((job.fresh_since for job in earlier if job.fresh_since), default=None)
    job = store.jobs.create(
        source=source.name,
        model=str(model),
        top_k=top_k,
        fresh_since=fresh_since,
        breaker=None if keep_going else BREAKER_OUTCOMES,
        include=selection.include,
        exclude=selection.exclude,
    )
    for superseded in earlier:
        store.jobs.supersede(superseded.id)
    feed = Feed(store, job)

    def on_page() -> None:
        servers.check()
        watch(feed.read())

    enqueue(
        found,
        job,
        store=store,
        send=servers.send,
        lanes=settings.lane_count,
        chunk_items=settings.chunk_items,
        on_page=on_page,
    )
    return _watch_to_end(feed, servers, watch)


def retry_failed(
    job: Job,
    *,
    codes: Collection[ErrorCode] | None = None,
    settings: Settings,
    store: Store,
    servers: Servers,
    watch: Watcher,
) -> Job:
    """Label the failed items of a job once more, and what it left undone.

    Returns:
        The job, ended.

    Raises:
        UsageError: if the job was cancelled or not listed to its end, or nothing failed in it.
    """
    if job.state in _NOT_TO_RETRY:
        raise UsageError(
            f"job {job.id} {_NOT_TO_RETRY[job.state]}: run {readable(job.source)} again instead"
        )
    feed = Feed(store, job)
    requeued = store.retries.requeue_failed(
        job.id, chunk_items=min(settings.chunk_items, RETRY_CHUNK_ITEMS), codes=codes
    )
    if not requeued and job.state is JobState.DONE:
        which = f" with {', '.join(sorted(codes))}" if codes else ""
        raise UsageError(f"job {job.id} has no failed items{which}")
    servers.send(store.retries.release_all(job.id))
    return _watch_to_end(feed, servers, watch)


def with_roots(settings: Settings, source_name: str) -> Settings:
    """Settings whose roots are the source's own folder where the user set none."""
    if settings.roots:
        return settings
    return settings.model_copy(update={"roots": default_roots(source_name)})


def _watch_to_end(feed: Feed, servers: Servers, watch: Watcher) -> Job:
    def check(job: Job) -> None:
        servers.check()
        if job.paused and job.paused != BY_HAND:
            wrong = job.paused.startswith(NEARLY_ALL_FAILED)
            ways = "; mend that and run it again, or go on with --keep-going" if wrong else ""
            raise JobPaused(f"job {job.id} is paused: {job.paused}{ways}")
        if feed.stalled_s() > STALL_S:
            servers.send(feed.waiting())

    return watch_to_end(feed, watch, check=check)
