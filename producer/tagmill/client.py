"""The Python API: what the commands of a cluster do, to be called from a program.

::

    from tagmill import Client

    with Client() as client:
        job = client.enqueue("s3://bucket/prefix")
        for progress in client.watch(job.id):
            print(progress.job.open)
        for result in client.results(job.id, min_score=0.5):
            print(result.uri, result.labels[0].name)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

from tagmill.contract import BY_HAND, ErrorCode, JobState, Priority, Status
from tagmill.enqueue import Plan, begun, enqueue, plan, position
from tagmill.errors import UnknownJob, UsageError
from tagmill.filters import Filter
from tagmill.follow import follow
from tagmill.registry import BUILT_IN, ModelVersion, open_registry
from tagmill.s3 import S3
from tagmill.settings import Settings, load_settings
from tagmill.sources import Selection, Source, open_source
from tagmill.store import Job, LaneNote, Result, Store
from tagmill.store.lanes import SEEN_WITHIN_S
from tagmill.watch import Feed, Progress

if TYPE_CHECKING:
    from tagmill.broker import Broker

EXPECTED_LANES = 8
"""What chunks are cut for while no lane is alive yet."""


class Listener:
    """Is told how a listing gets on; each method may be overridden."""

    def on_job(self, job: Job) -> None:
        """The job is made, nothing is listed yet."""

    def on_page(self, job: Job) -> None:
        """A page of the listing is written; ``job`` is how it stands."""

    def on_trouble(self, error: Exception) -> None:
        """A source that is followed could not be looked at; the next look goes on."""

    def on_passed_over(self, passed_over: Counter[str]) -> None:
        """The listing is complete; entries that were left out, counted by reason."""


class Client:
    """A producer: enqueues jobs, watches them, reads what came of them.

    Args:
        settings: as the environment says, where none are given.

    Raises:
        StoreError: if the store is away or of another version.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self.store = Store(self.settings.store_address)
        self.store.prepare()
        self._s3 = S3(self.settings)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if "broker" in self.__dict__:
            self.broker.close()
        self.store.close()

    @cached_property
    def broker(self) -> Broker:
        """The broker that TAGMILL_BROKER_URL names.

        Raises:
            BrokerError: if it names none.
        """
        from tagmill.broker import Broker  # Celery takes a moment to load

        return Broker(self.settings)

    def enqueue(
        self,
        source: str,
        *,
        model: str = BUILT_IN,
        top_k: int = 5,
        again: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        priority: Priority = Priority.NORMAL,
        follow_s: float | None = None,
        listener: Listener | None = None,
    ) -> Job:
        """List a source and wake lanes up for what is new or changed in it.

        Args:
            source: a folder, a file, a glob, a manifest, or ``s3://bucket/prefix``.
            model: name or ``name@version``.
            top_k: labels kept per item.
            again: label all, known or not.
            include: patterns of names to list.
            exclude: patterns of names to leave out.
            priority: which of two jobs lanes take first.
            follow_s: go on for ever, looking at the source that often at least.
            listener: is told how the listing gets on.

        Returns:
            The job, listed; lanes are at work on it.

        Raises:
            UsageError: if there is no such source or model, or it has no images.
            StoreError: if the store is away; `resume_listing` goes on.
            BrokerError: if the broker is; as there.
        """
        self.broker.check()
        selection = Selection(include=tuple(include), exclude=tuple(exclude))
        opened = self._open(source, selection)
        version = self.model(model)
        found = begun(opened) if follow_s is None else None
        job = self._going_on(opened, str(version), top_k, selection) if follow_s else None
        job = job or self.store.jobs.create(
            source=opened.name,
            model=str(version),
            top_k=top_k,
            fresh_since=None if again else 0.0,
            include=selection.include,
            exclude=selection.exclude,
            priority=priority,
            follow_s=follow_s,
        )
        listener = listener or Listener()
        listener.on_job(job)
        return self._list(opened, job, found, listener)

    def resume_listing(
        self,
        job_id: str,
        *,
        listener: Listener | None = None,
    ) -> Job:
        """Go on with a listing that broke off, and wake lanes up for what waits.

        Raises:
            UsageError: if the job has ended, or another producer is listing it.
        """
        job = self.job(job_id)
        if job.state.is_finished:
            raise UsageError(f"job {job.id} is {job.state}: there is nothing to go on with")
        self.broker.send(self.store.retries.waiting(job.id))
        if job.state is not JobState.LISTING:
            return job
        opened = self._open(job.source, Selection(include=job.include, exclude=job.exclude))
        return self._list(opened, job, None, listener or Listener())

    def plan(
        self,
        source: str,
        *,
        model: str = BUILT_IN,
        top_k: int = 5,
        again: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> Plan:
        """Count what `enqueue` would do, without doing it."""
        opened = self._open(source, Selection(include=tuple(include), exclude=tuple(exclude)))
        version = self.model(model)
        since = float("inf") if again else 0.0
        return plan(opened, store=self.store, model=str(version), top_k=top_k, fresh_since=since)

    def model(self, text: str) -> ModelVersion:
        """The version that ``name`` or ``name@version`` means.

        Raises:
            UnknownModel: if the registry has no such.
        """
        return open_registry(self.settings).resolve(text)

    def jobs(self, limit: int = 20) -> Sequence[Job]:
        """The newest jobs, newest first."""
        return self.store.jobs.recent(limit)

    def job(self, job_id: str) -> Job:
        """The job of that id, or of the only id that begins so.

        Raises:
            UnknownJob: if there is none, or more than one.
        """
        return self.store.jobs.get(job_id)

    def newest(self, source: str | None = None) -> Job:
        """The newest job, of a source where one is named.

        Raises:
            UnknownJob: if there is none.
        """
        if source is None:
            found = self.store.jobs.recent(1)
        else:
            name = self._open(source, Selection()).name
            newest = self.store.jobs.of_source(name)
            found = [newest] if newest else []
        if not found:
            of = f" of {source}" if source else ""
            raise UnknownJob(f"no job{of} in {self.store.database.name}")
        return found[0]

    def watch(self, job_id: str, *, every_s: float = 1.0) -> Iterator[Progress]:
        """Look at a job until it ends, its last state included."""
        feed = Feed(self.store, self.job(job_id), from_start=True)
        while True:
            progress = feed.read()
            yield progress
            if progress.job.state.is_finished:
                return
            time.sleep(every_s)

    def results(
        self,
        job_id: str | None = None,
        *,
        source: str | None = None,
        status: Status | None = None,
        label: str | None = None,
        min_score: float = 0.0,
    ) -> Iterator[Result]:
        """Read results in listing order, in constant memory.

        Args:
            job_id: of which job; else the newest.
            source: of the newest job of that source instead.
            status: only items that ended so.
            label: only items with that label, by name or id.
            min_score: only items whose best label, or the one named, has that score at least.

        Raises:
            UnknownJob: if there is no such job.
        """
        job = self.job(job_id) if job_id else self.newest(source)
        wanted = Filter(status=status, label=label, min_score=min_score)
        return filter(wanted.takes, self.store.outcomes.results(job.id))

    def pause(self, job_id: str, *, why: str = BY_HAND) -> Job:
        """Let no lane take its chunks; those in hand are finished.

        Raises:
            UsageError: if it has ended.
        """
        job = self.job(job_id)
        if not self.store.jobs.pause(job.id, why):
            raise UsageError(f"job {job.id} is {job.state} already")
        return self.job(job.id)

    def resume(self, job_id: str) -> Job:
        """Let lanes take its chunks again, and wake them up.

        Raises:
            UsageError: if it has ended.
        """
        job = self.job(job_id)
        if not self.store.jobs.resume(job.id):
            raise UsageError(f"job {job.id} is {job.state} already")
        self.broker.send(self.store.retries.waiting(job.id))
        return self.job(job.id)

    def cancel(self, job_id: str) -> Job:
        """End a job; what it has labelled stays.

        Raises:
            UsageError: if it has ended.
        """
        job = self.job(job_id)
        if not self.store.jobs.cancel(job.id):
            raise UsageError(f"job {job.id} is {job.state} already")
        return self.job(job.id)

    def retry(self, job_id: str, *, codes: Collection[ErrorCode] | None = None) -> int:
        """Label the failed items of a job once more.

        Args:
            job_id: of which job.
            codes: only items that failed so; all where ``None``.

        Returns:
            How many items there are.

        Raises:
            UsageError: if the job was cancelled or is listing, or no item failed so.
        """
        job = self.job(job_id)
        requeued = self.store.retries.requeue_failed(
            job.id, chunk_items=min(self.settings.chunk_items, 32), codes=codes
        )
        if not requeued:
            which = f" with {', '.join(sorted(codes))}" if codes else ""
            raise UsageError(f"job {job.id} ({job.state}) has no failed items{which} to retry")
        self.broker.send(self.store.retries.waiting(job.id))
        return requeued

    def workers(self) -> Sequence[LaneNote]:
        """The lanes that are alive, by name."""
        return self.store.lanes.alive(within_s=SEEN_WITHIN_S)

    def _open(self, source: str, selection: Selection) -> Source:
        return open_source(
            source, leave_out=self.settings.state_dir, s3=self._s3, selection=selection
        )

    def _going_on(self, source: Source, model: str, top_k: int, selection: Selection) -> Job | None:
        """The job that follows a source already: stopped, it goes on."""
        asked = {"include": selection.include, "exclude": selection.exclude}
        found = self.store.jobs.unfinished(source=source.name, model=model, top_k=top_k, **asked)
        return next((job for job in reversed(found) if job.follow_s is not None), None)

    def _list(
        self,
        source: Source,
        job: Job,
        found: Iterator[tuple[str, str]] | None,
        listener: Listener,
    ) -> Job:
        lanes = len(self.workers()) or EXPECTED_LANES

        def report() -> None:
            listener.on_page(self.store.jobs.get(job.id))

        if job.follow_s is not None:
            follow(
                source,
                job,
                store=self.store,
                send=self.broker.send,
                on_page=report,
                on_trouble=listener.on_trouble,
            )
        else:
            after = position(self.store, job)
            enqueue(
                found or source.items(after),
                job,
                store=self.store,
                send=self.broker.send,
                lanes=lanes,
                chunk_items=self.settings.chunk_items,
                on_page=report,
                after=after,
            )
        listener.on_passed_over(source.passed_over)
        return self.store.jobs.get(job.id)
