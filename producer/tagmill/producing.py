"""Giving a cluster work: what a producer holds, and what it enqueues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tagmill.contract import JobState, Priority
from tagmill.enqueue import Plan, begun, plan
from tagmill.errors import UsageError
from tagmill.follow import default_every_s
from tagmill.listing import Listener, list_source
from tagmill.models import resolve
from tagmill.patience import Patience
from tagmill.registry import BUILT_IN, ModelVersion, open_registry
from tagmill.s3 import S3
from tagmill.settings import Settings, load_settings
from tagmill.sources import EVERYTHING, Selection, Source, open_source, source_name
from tagmill.stale import StaleSource
from tagmill.store import Job, Store
from tagmill.store.jobs import BREAKER_OUTCOMES
from tagmill.store.lanes import SEEN_WITHIN_S

if TYPE_CHECKING:
    from tagmill.broker import Broker

MOST_LABELS = 100
"""Of an item: what a person or a query looks at."""


class Producing:
    """A store and a broker, and the enqueueing of sources into them.

    Args:
        settings: as the environment says, where none are given.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        self._s3 = S3(self.settings)
        self._patient = Patience()

    def __enter__(self) -> Self:
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
        if "store" in self.__dict__:
            self.store.close()

    @cached_property
    def store(self) -> Store:
        """The store that TAGMILL_STORE_URL names, else SQLite in the state folder.

        Raises:
            StoreError: if it is away or of another version.
        """
        if self.settings.store_url is None:
            self.settings.state_dir.mkdir(parents=True, exist_ok=True)
        made = Store(self.settings.store_address)
        made.prepare()
        return made

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
        source: str | PathLike[str],
        *,
        model: str = BUILT_IN,
        top_k: int = 5,
        again: bool = False,
        keep_going: bool = False,
        stale: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        priority: Priority = Priority.NORMAL,
        follow: bool = False,
        every_s: float | None = None,
        listener: Listener | None = None,
    ) -> Job:
        """List a source and wake lanes up for what is new or changed in it.

        Args:
            source: a folder, a file, a glob, a manifest, or ``s3://bucket/prefix``.
            model: name or ``name@version``.
            top_k: labels kept per item.
            again: label all, known or not.
            keep_going: do not pause the job though nearly all of its first items fail.
            stale: label only what an older version of the model labelled, lowest score first.
            include: patterns of names to list.
            exclude: patterns of names to leave out.
            priority: which of two jobs lanes take first.
            follow: go on with what arrives, until the job is cancelled.
            every_s: seconds between two looks at all of a source that is followed.
            listener: is told how the listing gets on.

        Returns:
            The job, listed; lanes are at work on it.

        Raises:
            UsageError: if there is no such source or model, or it has no images.
            StoreError: if the store is away; `resume_listing` goes on.
            BrokerError: if the broker is; as there.
        """
        priority = _priority(priority)
        if not 1 <= top_k <= MOST_LABELS:
            raise UsageError(f"top_k is {top_k}, it may be 1 to {MOST_LABELS}")
        self.broker.check()
        selection = _selection(include, exclude)
        version = self.model(model)
        opened = self._open(source, selection, stale=version if stale else None)
        follow_s = None
        if follow:  # which not every kind of source can be
            usual_s = default_every_s(opened)
            follow_s = every_s or usual_s
        found = None if follow else begun(opened, may_be_empty=stale)
        asked: dict[str, Any] = {
            "source": opened.name,
            "model": str(version),
            "top_k": top_k,
            "include": selection.include,
            "exclude": selection.exclude,
        }
        job = self._following(again, **asked) if follow else None
        if job is None:
            fresh_since = None if again else 0.0
            job = self.store.jobs.create(
                **asked,
                fresh_since=fresh_since,
                priority=priority,
                follow_s=follow_s,
                breaker=None if keep_going else BREAKER_OUTCOMES,
                stale=stale,
            )
        else:
            self.store.jobs.follow(job.id, follow_s=follow_s, priority=priority)
            job = self.store.jobs.get(job.id)
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
        job = self.store.jobs.get(job_id)
        if job.state.is_finished:
            raise UsageError(f"job {job.id} is {job.state}: there is nothing to go on with")
        self.broker.check()
        self._remind(job)
        if job.state is not JobState.LISTING:
            return job
        selection = Selection(include=job.include, exclude=job.exclude)
        stale = self.model(job.model) if job.stale else None
        opened = self._open(job.source, selection, stale=stale, until=job.created_at)
        return self._list(opened, job, None, listener or Listener())

    def plan(
        self,
        source: str,
        *,
        model: str = BUILT_IN,
        top_k: int = 5,
        again: bool = False,
        stale: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> Plan:
        """Count what `enqueue` would do, without doing it."""
        version = self.model(model)
        selection = _selection(include, exclude)
        opened = self._open(source, selection, stale=version if stale else None)
        since = float("inf") if again else 0.0
        return plan(opened, store=self.store, model=str(version), top_k=top_k, fresh_since=since)

    def model(self, text: str) -> ModelVersion:
        """The version that ``name``, ``name@alias`` or ``name@version`` means.

        Raises:
            UnknownModel: if there is no such.
        """
        return resolve(text, registry=open_registry(self.settings), aliases=self.store.aliases)

    def _open(
        self,
        source: str | PathLike[str],
        selection: Selection,
        *,
        stale: ModelVersion | None = None,
        until: float | None = None,
    ) -> Source:
        if stale is not None:
            if selection != EVERYTHING:
                raise UsageError("what an older version labelled is taken whole: no patterns")
            name = source_name(fspath(source))
            return StaleSource(name, store=self.store, model=stale, until=until)
        return open_source(
            fspath(source), leave_out=self.settings.state_dir, s3=self._s3, selection=selection
        )

    def _following(self, again: bool, **asked: Any) -> Job | None:
        """The job that follows a source already: stopped, it goes on."""
        found = [job for job in self.store.jobs.unfinished(**asked) if job.follow_s is not None]
        if found and again:
            raise UsageError(f"job {found[-1].id} follows that source: cancel it to begin again")
        return found[-1] if found else None

    def _remind(self, job: Job) -> None:
        """Wake lanes up for what waits."""
        self._patient(self.broker.send, self._patient(self.store.retries.waiting, job.id))

    def _list(
        self,
        source: Source,
        job: Job,
        found: Iterator[tuple[str, str]] | None,
        listener: Listener,
    ) -> Job:
        return list_source(
            source,
            job,
            found=found,
            store=self.store,
            send=self.broker.send,
            lanes=self.store.lanes.alive(within_s=SEEN_WITHIN_S),
            chunk_items=self.settings.chunk_items,
            listener=listener,
        )


def _priority(name: str) -> Priority:
    try:
        return Priority(name)
    except ValueError as error:
        raise UsageError(f"no priority {name!r}: there is {', '.join(Priority)}") from error


def _selection(include: Sequence[str], exclude: Sequence[str]) -> Selection:
    for patterns in (include, exclude):
        if isinstance(patterns, str):  # whose letters would each be a pattern
            raise UsageError(f"patterns are a list, as [{patterns!r}]")
    return Selection(include=tuple(include), exclude=tuple(exclude))
