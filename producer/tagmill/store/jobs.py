"""Jobs: what was asked for, and how far it is."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, select, update

from tagmill.contract import (
    UNFINISHED,
    ChunkState,
    ChunkSummary,
    ChunkTimings,
    JobState,
    Priority,
)
from tagmill.errors import UnknownJob
from tagmill.store.database import Database
from tagmill.store.schema import chunks, epoch_now, jobs

BREAKER_OUTCOMES = 200
"""So many outcomes tell whether a job makes sense, and cost seconds where it does not."""

_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # no letter that is easily taken for another


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One request to label a source with one model version and one top-k.

    Attributes:
        model: the version it is pinned to, as ``name@number``.
        listed: items found so far; ``listed = skipped + ok + failed + open``.
        skipped: items whose outcome an earlier job had already found.
        pending: chunks not yet done.
        fresh_since: only outcomes from that time on were taken over (seconds since the epoch).
        include: patterns of names that are listed; the suffixes of images where empty.
        exclude: patterns of names that are not.
        paused: why no lane takes its chunks, ``None`` where lanes do.
        follow_s: seconds between two looks at a source that is followed, else ``None``.
        breaker: outcomes at which it pauses if nearly all are failures; ``None`` where it does not.
        stale: it labels only what an older version of its model labelled.
        created_at: seconds since the epoch, as ``finished_at``.
    """

    id: str
    source: str
    model: str
    top_k: int
    state: JobState
    listed: int
    skipped: int
    ok: int
    failed: int
    chunks: int
    pending: int
    fresh_since: float
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    priority: Priority
    paused: str | None
    follow_s: float | None
    breaker: int | None
    stale: bool = False
    created_at: float
    finished_at: float | None

    @property
    def open(self) -> int:
        """Items listed that have no outcome yet."""
        return self.listed - self.skipped - self.ok - self.failed


_COLUMNS = [jobs.c[name] for name in Job.__slots__]


class Jobs:
    """The jobs of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        *,
        source: str,
        model: str,
        top_k: int,
        fresh_since: float | None = 0.0,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        priority: Priority = Priority.NORMAL,
        follow_s: float | None = None,
        breaker: int | None = BREAKER_OUTCOMES,
        stale: bool = False,
    ) -> Job:
        """Make a job that is about to list its source.

        Args:
            source: what the user named, made absolute.
            model: the version to pin it to, as ``name@number``.
            top_k: labels kept per item.
            fresh_since: take over no outcome from before that time; ``None`` for now.
            include: as in `Job`, like the rest.
            exclude: as there.
            priority: as there.
            follow_s: as there.
            breaker: as there.
            stale: as there.
        """
        with self._database.write() as connection:
            job_id = insert_job(
                connection,
                source=source,
                model=model,
                top_k=top_k,
                fresh_since=epoch_now() if fresh_since is None else fresh_since,
                include=json.dumps(include),
                exclude=json.dumps(exclude),
                priority=priority,
                follow_s=follow_s,
                breaker=breaker,
                stale=stale,
            )
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """The job of that id, or of the only id that begins so.

        Raises:
            UnknownJob: if there is none, or more than one.
        """
        wanted = select(*_COLUMNS).where(jobs.c.id.startswith(job_id, autoescape=True)).limit(2)
        rows: Sequence[Row[tuple[Any, ...]]] = ()
        if job_id.isascii() and job_id.isprintable():  # else no database need be asked
            with self._database.read() as connection:
                rows = connection.execute(wanted).all()
        exact = [row for row in rows if row.id == job_id] or rows
        if len(exact) != 1 or not job_id:
            reason = f"no job {job_id!r}" if not exact else f"more than one job begins {job_id!r}"
            if job_id.startswith("t"):
                reason = f"{job_id!r:.60} is a training's id, and no job's"
            raise UnknownJob(f"{reason} in {self._database.name}; 'tagmill status' lists them")
        return _job(exact[0])

    def recent(self, limit: int = 20) -> list[Job]:
        """The newest jobs, newest first."""
        wanted = select(*_COLUMNS).order_by(jobs.c.created_at.desc()).limit(limit)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def newest(self, *, source: str | None = None, model: str | None = None) -> Job | None:
        """The newest job, of a source and of a model version where they are named."""
        wanted = select(*_COLUMNS).order_by(jobs.c.created_at.desc()).limit(1)
        if source is not None:
            wanted = wanted.where(jobs.c.source == source)
        if model is not None:
            wanted = wanted.where(jobs.c.model == model)
        with self._database.read() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else _job(row)

    def cursor(self, job_id: str) -> str | None:
        """Where the listing of a job stands; ``None`` before its first page and after its last."""
        with self._database.read() as connection:
            found: str | None = connection.scalar(select(jobs.c.cursor).where(jobs.c.id == job_id))
            return found

    def unfinished(
        self,
        *,
        source: str,
        model: str,
        top_k: int,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        stale: bool = False,
    ) -> Sequence[Job]:
        """Jobs of the same request that have not ended, oldest first."""
        wanted = (
            select(*_COLUMNS)
            .where(jobs.c.source == source, jobs.c.model == model, jobs.c.top_k == top_k)
            .where(jobs.c.include == json.dumps(include), jobs.c.exclude == json.dumps(exclude))
            .where(jobs.c.state.in_(UNFINISHED), jobs.c.stale.is_(stale))
            .order_by(jobs.c.created_at)
        )
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(wanted)]

    def now(self) -> float:
        """The store's clock, in seconds since the epoch."""
        with self._database.read() as connection:
            return connection.execute(select(epoch_now())).scalar_one()

    def cancel(self, job_id: str) -> bool:
        """End a job; its outcomes stay. False where it had ended already."""
        return self._end(job_id, JobState.CANCELLED)

    def supersede(self, job_id: str) -> bool:
        """End a job since a later one goes on with its work; as `cancel`."""
        return self._end(job_id, JobState.SUPERSEDED)

    def pause(self, job_id: str, why: str) -> bool:
        """Let no lane take its chunks; those in hand are finished. False where it had ended."""
        return self._set(job_id, paused=why)

    def resume(self, job_id: str) -> bool:
        """Let lanes take its chunks again; as `pause`."""
        return self._set(job_id, paused=None)

    def unlisted(self, again_s: float) -> list[str]:
        """Jobs that a lane was to list and none does, each named once in that many seconds."""
        over = and_(jobs.c.state == JobState.LISTING, jobs.c.lister_until < epoch_now())
        named = update(jobs).where(over).values(lister_until=epoch_now() + again_s)
        with self._database.write() as connection:
            return list(connection.scalars(named.returning(jobs.c.id)))

    def renew_listing(self, job_id: str, again_s: float) -> None:
        """Say that a lane is listing a job."""
        self._set(job_id, lister_until=epoch_now() + again_s)

    def _end(self, job_id: str, state: JobState) -> bool:
        return self._set(job_id, state=state, paused=None, finished_at=epoch_now())

    def follow(self, job_id: str, *, follow_s: float | None, priority: Priority) -> bool:
        """Change how a source is followed. False where the job had ended."""
        return self._set(job_id, follow_s=follow_s, priority=priority)

    def _set(self, job_id: str, **values: Any) -> bool:
        unfinished = jobs.c.state.in_(UNFINISHED)
        with self._database.write() as connection:
            done = connection.execute(
                update(jobs).where(jobs.c.id == job_id, unfinished).values(**values)
            )
        return done.rowcount == 1

    def summaries(
        self, job_id: str, *, since: float = 0.0
    ) -> list[tuple[int, float, ChunkSummary]]:
        """Committed chunks from a time on, as (seq, committed at, summary), oldest first."""
        wanted = (
            select(chunks.c.seq, chunks.c.committed_at, chunks.c.summary)
            .where(chunks.c.job_id == job_id, chunks.c.state == ChunkState.DONE)
            .where(chunks.c.committed_at >= since)
            .order_by(chunks.c.committed_at)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [(row.seq, row.committed_at, _summary(row.summary)) for row in rows]


def insert_job(connection: Connection, **values: Any) -> str:
    """Write a job that is about to list its source, in a transaction; its id."""
    job_id = new_id()
    connection.execute(
        jobs.insert().values(id=job_id, state=JobState.LISTING, created_at=epoch_now(), **values)
    )
    return job_id


def new_id() -> str:
    """A name that a person can read aloud, and that begins with the day."""
    return f"{time.strftime('%y%m%d')}-{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"


def _job(row: Row[tuple[object, ...]]) -> Job:
    values: dict[str, Any] = dict(row._mapping)
    values["state"] = JobState(values["state"])
    values["priority"] = Priority(values["priority"])
    for name in ("include", "exclude"):
        values[name] = tuple(json.loads(values[name]))
    return Job(**values)


def _summary(text: str) -> ChunkSummary:
    values = json.loads(text)
    return ChunkSummary(**{**values, "timings": ChunkTimings(**values["timings"])})
