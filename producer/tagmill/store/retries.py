"""Chunks that are to be done once more: lost on their way, or full of failed items."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    case,
    delete,
    or_,
    select,
    update,
)

from tagmill.contract import (
    ChunkMessage,
    ChunkState,
    ErrorCode,
    Item,
    JobState,
    Priority,
    Status,
    load_items,
)
from tagmill.store.database import Database
from tagmill.store.outcomes import stands_for
from tagmill.store.queued import given_back, insert_chunks, is_open, named_again_at
from tagmill.store.schema import chunks, epoch_now, jobs, outcomes, skipped

MOST_AT_ONCE = 2000
"""Chunks that are named at once: what is left is named the next time."""


class Retries:
    """The retries of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def release_all(self, job_id: str) -> list[ChunkMessage]:
        """Queue every chunk of a job that is not done, whoever holds it, and name them.

        For whoever knows that no lane is at work on the job: a claim still held is over, and not
        by the chunk's fault.
        """
        unfinished = and_(chunks.c.job_id == job_id, chunks.c.state != ChunkState.DONE)
        with self._database.write() as connection:
            connection.execute(
                update(chunks).where(unfinished).values(losses=0, **given_back(job_id))
            )
            named = _named().where(unfinished).order_by(chunks.c.seq)
            return [_message(row) for row in connection.execute(named)]

    def waiting(self, job_id: str) -> list[ChunkMessage]:
        """The chunks of a job that a lane could take: queued, or with a lease that ran out."""
        free = or_(chunks.c.state == ChunkState.QUEUED, chunks.c.lease_until < epoch_now())
        wanted = (
            _named()
            .where(chunks.c.job_id == job_id, chunks.c.state != ChunkState.DONE, free)
            .order_by(chunks.c.seq)
        )
        with self._database.read() as connection:
            return [_message(row) for row in connection.execute(wanted)]

    def release_expired(self) -> list[ChunkMessage]:
        """Queue the chunks whose lease ran out, and name those that have waited for long.

        A chunk that waits is named again after ten minutes, then ever more seldom, in case its
        message was lost.
        """
        expired = (
            _named()
            .add_columns(chunks.c.state)
            .where(chunks.c.state != ChunkState.DONE, chunks.c.lease_until < epoch_now())
            .where(is_open())
            .limit(MOST_AT_ONCE)
            .with_for_update(of=chunks, skip_locked=True)  # two ticks at once take different ones
        )
        with self._database.write() as connection:
            found = connection.execute(expired).all()
            for row in found:
                lost = 1 if row.state == ChunkState.CLAIMED else 0
                connection.execute(
                    update(chunks)
                    .where(chunks.c.job_id == row.job_id, chunks.c.seq == row.seq)
                    .values(
                        state=ChunkState.QUEUED,
                        lease_until=named_again_at(row.job_id),
                        losses=chunks.c.losses + lost,
                    )
                )
        return [_message(row) for row in found]

    def queued(self) -> list[ChunkMessage]:
        """Chunks of all jobs that wait for a lane, oldest jobs first, a bounded number of them."""
        wanted = (
            _named()
            .where(chunks.c.state == ChunkState.QUEUED, is_open())
            .order_by(jobs.c.created_at, chunks.c.seq)
            .limit(MOST_AT_ONCE)
        )
        with self._database.read() as connection:
            return [_message(row) for row in connection.execute(wanted)]

    def requeue_failed(
        self, job_id: str, *, chunk_items: int, codes: Collection[ErrorCode] | None = None
    ) -> int:
        """Turn the failed items of a job into new chunks, those taken over from others too.

        Until they are redone their outcomes stand.

        Args:
            job_id: the job.
            chunk_items: items of a chunk at the most.
            codes: only items that failed so; all where ``None``.

        Returns:
            How many items there were; 0 also where the job is cancelled, or listing and not
            following.
        """
        failed = [outcomes.c.status == Status.FAILED]
        if codes is not None:
            failed.append(outcomes.c.error.in_(sorted(codes)))
        open_job = or_(
            jobs.c.state.in_([JobState.RUNNING, JobState.DONE]),
            and_(jobs.c.state == JobState.LISTING, jobs.c.follow_s.is_not(None)),
        )
        with self._database.write() as connection:
            # Whoever retries the same job at the same time waits here.
            locked = select(jobs.c.id).where(jobs.c.id == job_id, open_job).with_for_update()
            if connection.scalar(locked) is None:
                return 0
            own = self._failed_items(connection, job_id, failed)
            others = self._failed_items_of_others(connection, job_id, failed)
            items = sorted([*own, *others], key=lambda item: item.n)
            if not items:
                return 0
            new = [items[i : i + chunk_items] for i in range(0, len(items), chunk_items)]
            end = connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id)
                .values(
                    failed=jobs.c.failed - len(own),
                    skipped=jobs.c.skipped - len(others),
                    chunks=jobs.c.chunks + len(new),
                    pending=jobs.c.pending + len(new),
                    state=case(
                        (jobs.c.state == JobState.LISTING, jobs.c.state), else_=JobState.RUNNING
                    ),
                    finished_at=None,
                )
                .returning(jobs.c.chunks)
            ).scalar_one()
            for item in others:
                mine = and_(skipped.c.job_id == job_id, skipped.c.n == item.n)
                connection.execute(delete(skipped).where(mine))
            insert_chunks(connection, job_id, range(end - len(new), end), new)
        return len(items)

    def _failed_items(
        self, connection: Connection, job_id: str, failed: list[ColumnElement[bool]]
    ) -> list[Item]:
        """The items that failed in a job itself, but for those that are queued again already."""
        unfinished = and_(chunks.c.job_id == job_id, chunks.c.state != ChunkState.DONE)
        texts = connection.scalars(select(chunks.c["items"]).where(unfinished))
        queued = {item.n for text in texts for item in load_items(text)}
        found = connection.execute(
            select(outcomes.c.n, outcomes.c.uri, outcomes.c.version).where(
                outcomes.c.job_id == job_id, *failed
            )
        )
        return [
            Item(n=row.n, uri=row.uri, version=row.version) for row in found if row.n not in queued
        ]

    def _failed_items_of_others(
        self, connection: Connection, job_id: str, failed: list[ColumnElement[bool]]
    ) -> list[Item]:
        """The items of a job that took over a failure of an earlier one."""
        found = connection.execute(
            select(skipped.c.n, outcomes.c.uri, outcomes.c.version)
            .join(outcomes, stands_for())
            .where(skipped.c.job_id == job_id, *failed)
        )
        return [Item(n=row.n, uri=row.uri, version=row.version) for row in found]


def _named() -> Select[tuple[Any, ...]]:
    """Chunks by what a message says of them."""
    return select(chunks.c.job_id, chunks.c.seq, jobs.c.priority).join(
        jobs, jobs.c.id == chunks.c.job_id
    )


def _message(row: Row[tuple[Any, ...]]) -> ChunkMessage:
    return ChunkMessage(job=row.job_id, seq=row.seq, priority=Priority(row.priority))
