"""The main job on one machine: list a source, label what is new in it, watch until it is done.

Servers are started when the first chunk is there to be done, and not at all where nothing is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from tagmill.contract import ChunkMessage, JobState
from tagmill.embedded import Servers
from tagmill.enqueue import enqueue
from tagmill.errors import JobCancelled, SourceError, UsageError
from tagmill.registry import ModelVersion
from tagmill.settings import Settings
from tagmill.sources import Source, default_roots, readable
from tagmill.store import Job, Store

POLL_S = 0.1
"""Between two looks at the store: short beside a chunk, long beside the look's cost."""

END_POLL_S = 0.02
"""The same for the last chunks, whose end somebody waits for."""

STALL_S = 10.0
"""Without a commit for that long, lanes are reminded of the chunks that they could take."""

_NOT_TO_RETRY = {
    JobState.LISTING: "was not listed to its end",
    JobState.CANCELLED: "was cancelled",
    JobState.SUPERSEDED: "was interrupted, and a later run went on",
}

_OVERLAP_S = 5.0  # commits become visible a little out of their order in time


@dataclass(slots=True)
class Progress:
    """How far a job is, for whoever shows it.

    Attributes:
        seen: how often each best label was seen in this run, by name.
        failures: how often each error code occurred in this run.
    """

    job: Job
    seen: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


class Watcher(Protocol):
    """Shows progress; called several times a second."""

    def __call__(self, progress: Progress, /) -> None: ...


def label_source(
    source: Source,
    *,
    settings: Settings,
    store: Store,
    servers: Servers,
    model: ModelVersion,
    top_k: int,
    again: bool,
    watch: Watcher,
) -> Job:
    """Label what is new or changed in a source.

    An earlier run of the same request that did not end is superseded: its outcomes stand, the
    rest is listed anew, so that changes since then are seen too.

    Returns:
        The job, ended.

    Raises:
        SourceError: if the source cannot be read or has no images.
        StoreError, BrokerError, WorkerStopped: what went wrong; running it again goes on.
    """
    found = _begun(source)
    earlier = store.jobs.unfinished(source=source.name, model=str(model), top_k=top_k)
    fresh_since: float | None = 0.0
    if again:
        # A run with --again that was interrupted goes on, instead of beginning yet again.
        fresh_since = min((job.fresh_since for job in earlier if job.fresh_since), default=None)
    job = store.jobs.create(
        source=source.name, model=str(model), top_k=top_k, fresh_since=fresh_since
    )
    for superseded in earlier:
        store.jobs.supersede(superseded.id)
    feed = _Feed(store, job)

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
    job: Job, *, settings: Settings, store: Store, servers: Servers, watch: Watcher
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
    feed = _Feed(store, job)
    requeued = store.retries.requeue_failed(job.id, chunk_items=min(settings.chunk_items, 32))
    if not requeued and job.state is JobState.DONE:
        raise UsageError(f"job {job.id} has no failed items")
    seqs = store.retries.release_all(job.id)
    servers.send([ChunkMessage(job=job.id, seq=seq) for seq in seqs])
    return _watch_to_end(feed, servers, watch)


def require_images(source: Source) -> None:
    """Look whether a source has an image at all, before something costly is done for it.

    Raises:
        SourceError: if it has none, or cannot be read.
    """
    _begun(source)


def with_roots(settings: Settings, source_name: str) -> Settings:
    """Settings whose roots are the source's own folder where the user set none."""
    if settings.roots:
        return settings
    return settings.model_copy(update={"roots": default_roots(source_name)})


def nothing_found(source: Source) -> str:
    """A sentence for a source without images, with what was passed over in it."""
    passed = ", ".join(f"{count:,} × {why}" for why, count in source.passed_over.most_common(5))
    return f"no images in {readable(source.name)}" + (f" (passed over: {passed})" if passed else "")


def _begun(source: Source) -> Iterator[tuple[str, str]]:
    """The items of a source, of which the first has been found."""
    found = source.items()
    for first in found:
        return chain([first], found)
    raise SourceError(nothing_found(source))


def _watch_to_end(feed: _Feed, servers: Servers, watch: Watcher) -> Job:
    while True:
        progress = feed.read()
        watch(progress)
        job = progress.job
        if job.state is JobState.CANCELLED:
            raise JobCancelled(
                f"job {job.id} was cancelled from elsewhere; "
                f"{job.ok + job.failed:,} outcomes stay: tagmill results {job.id}"
            )
        if job.state.is_finished:
            return job
        servers.check()
        if feed.stalled_s() > STALL_S:
            servers.send(feed.waiting())
        time.sleep(POLL_S if job.pending > 2 else END_POLL_S)


class _Feed:
    """Reads a job's progress: its counters, and the chunks committed since the last look."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._progress = Progress(job=job)
        self._counted = {seq for seq, _, _ in store.jobs.summaries(job.id)}
        self._newest = 0.0
        self._moved_at = time.monotonic()

    def stalled_s(self) -> float:
        """For how long no chunk was committed, or none was found waiting."""
        return time.monotonic() - self._moved_at

    def waiting(self) -> list[ChunkMessage]:
        """A message for every chunk that a lane could take."""
        self._moved_at = time.monotonic()
        job_id = self._progress.job.id
        seqs = self._store.retries.waiting(job_id)
        return [ChunkMessage(job=job_id, seq=seq) for seq in seqs]

    def read(self) -> Progress:
        progress = self._progress
        progress.job = self._store.jobs.get(progress.job.id)
        since = self._newest - _OVERLAP_S
        for seq, committed_at, summary in self._store.jobs.summaries(progress.job.id, since=since):
            self._newest = max(self._newest, committed_at)
            if seq not in self._counted:
                self._counted.add(seq)
                self._moved_at = time.monotonic()
                progress.seen.update(summary.seen)
                progress.failures.update(summary.failures)
        return progress
