"""The main job on one machine: list a source, label what is new in it, watch until it is done.

Servers are started when the first chunk is there to be done, and not at all where nothing is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from pydantic import SecretStr

from tagmill.broker import Broker
from tagmill.contract import ChunkMessage
from tagmill.embedded import EmbeddedBroker, EmbeddedWorker
from tagmill.enqueue import enqueue
from tagmill.errors import SourceError, UsageError
from tagmill.registry import ModelVersion
from tagmill.settings import Settings
from tagmill.sources import Source, default_roots
from tagmill.state_folder import StateFolder
from tagmill.store import Job, Store

POLL_S = 0.1
"""Between two looks at the store: short beside a chunk, long beside the look's cost."""

STOP_GRACE_S = 30.0
"""That lanes have to finish the chunks in hand."""

_ROOM_CHECK_S = 1.0
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


class Servers(AbstractContextManager["Servers"]):
    """The embedded broker and worker, started by the first message.

    Args:
        settings: with the roots that lanes may read under.
        folder: locked by the caller.
        lanes: how many.
        model: what they load first.
    """

    def __init__(
        self, settings: Settings, folder: StateFolder, *, lanes: int, model: ModelVersion
    ) -> None:
        self._broker = EmbeddedBroker(folder)
        url = SecretStr(self._broker.url)
        self._worker = EmbeddedWorker(
            settings.model_copy(update={"broker_url": url}), folder, lanes=lanes, model=model
        )
        self._sender: Broker | None = None
        self._folder = folder
        self._room_checked_at = 0.0

    def send(self, messages: Sequence[ChunkMessage]) -> None:
        """Send messages, starting the servers before the first.

        Raises:
            BrokerError: if the broker does not start or takes no message.
        """
        if self._sender is None:
            self._worker.start()  # takes longer than the broker to come up: both at once
            self._broker.start()
            self._sender = Broker(self._broker.url)
            self._sender.purge()  # of runs that were interrupted: the ledger knows better
        self._sender.send(messages)

    def check(self) -> None:
        """Look whether all is well.

        Raises:
            WorkerStopped: if the worker ended.
            StoreFull: if the room under the state folder is running out.
        """
        now = time.monotonic()
        if now - self._room_checked_at > _ROOM_CHECK_S:
            self._room_checked_at = now
            self._folder.check_room()
        self._worker.check()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop what was started.

        After trouble, lanes may finish the chunks that they have in hand. After the end of the job
        there are none, and a worker would take its time to find that out.
        """
        try:
            self._worker.stop(grace_s=0.0 if kind is None else STOP_GRACE_S)
        finally:
            if self._sender is not None:
                self._sender.close()
            self._broker.stop()


def label_source(
    source: Source,
    *,
    settings: Settings,
    store: Store,
    servers: Servers,
    model: ModelVersion,
    top_k: int,
    again: bool,
    lanes: int,
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
    earlier = store.jobs.unfinished(source=source.name, model=str(model), top_k=top_k)
    fresh_since: float | None = 0.0
    if again:
        # A run with --again that was interrupted goes on, instead of beginning yet again.
        fresh_since = min((job.fresh_since for job in earlier if job.fresh_since), default=None)
    job = store.jobs.create(
        source=source.name, model=str(model), top_k=top_k, fresh_since=fresh_since
    )
    for superseded in earlier:
        store.jobs.cancel(superseded.id)
    feed = _Feed(store, job)
    enqueue(
        source,
        job,
        store=store,
        send=servers.send,
        lanes=lanes,
        chunk_items=settings.chunk_items,
        on_page=lambda: watch(feed.read()),
    )
    if not store.jobs.get(job.id).listed:
        store.jobs.cancel(job.id)
        raise SourceError(nothing_found(source))
    return _watch_to_end(feed, servers, watch)


def retry_failed(
    job: Job, *, settings: Settings, store: Store, servers: Servers, watch: Watcher
) -> Job:
    """Label the failed items of a job once more, and what it left undone.

    Returns:
        The job, ended.

    Raises:
        UsageError: if the job was cancelled, or has nothing to retry.
    """
    if job.state.is_finished and not job.failed:
        raise UsageError(f"job {job.id} has no failed items")
    store.ledger.requeue_failed(job.id, chunk_items=max(1, min(settings.chunk_items, 32)))
    feed = _Feed(store, job)
    seqs = store.ledger.release_all(job.id)
    servers.send([ChunkMessage(job=job.id, seq=seq) for seq in seqs])
    return _watch_to_end(feed, servers, watch)


def with_roots(settings: Settings, source_name: str) -> Settings:
    """Settings whose roots are the source's own folder where the user set none."""
    if settings.roots:
        return settings
    return settings.model_copy(update={"roots": default_roots(source_name)})


def nothing_found(source: Source) -> str:
    """A sentence for a source without images, with what was passed over in it."""
    passed = ", ".join(f"{count:,} × {why}" for why, count in source.passed_over.most_common(5))
    return f"no images in {source.name}" + (f" (passed over: {passed})" if passed else "")


def _watch_to_end(feed: _Feed, servers: Servers, watch: Watcher) -> Job:
    while True:
        progress = feed.read()
        watch(progress)
        if progress.job.state.is_finished:
            return progress.job
        servers.check()
        time.sleep(POLL_S)


class _Feed:
    """Reads a job's progress: its counters, and the chunks committed since the last look."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._progress = Progress(job=job)
        self._counted = {seq for seq, _, _ in store.jobs.summaries(job.id)}
        self._newest = 0.0

    def read(self) -> Progress:
        progress = self._progress
        progress.job = self._store.jobs.get(progress.job.id)
        since = self._newest - _OVERLAP_S
        for seq, committed_at, summary in self._store.jobs.summaries(progress.job.id, since=since):
            self._newest = max(self._newest, committed_at)
            if seq not in self._counted:
                self._counted.add(seq)
                progress.seen.update(summary.seen)
                progress.failures.update(summary.failures)
        return progress
