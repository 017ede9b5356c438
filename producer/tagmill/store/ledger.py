"""The ledger: chunks, and who may do them.

A chunk goes queued → claimed → done. A claim is one UPDATE and raises ``attempt``, the fencing
token; a commit counts only while ``attempt`` is still the claim's, so that of two lanes that
hold the same chunk only the later claim can commit, and it commits outcomes, chunk and counters
in one transaction.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    case,
    exists,
    or_,
    select,
    update,
)

from tagmill.contract import (
    ChunkState,
    ChunkSummary,
    ClaimedChunk,
    Item,
    JobState,
    Outcome,
    Priority,
    Status,
    load_items,
)
from tagmill.errors import ClaimLost
from tagmill.store import breaker
from tagmill.store.database import Database
from tagmill.store.outcomes import upsert
from tagmill.store.queued import given_back, insert_chunks, is_held, is_open, put_off
from tagmill.store.schema import chunks, epoch_now, jobs, skipped


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What one step of listing found, to be written in one transaction.

    Attributes:
        chunks: the items to label, chunk by chunk.
        skipped: the items whose outcome stands already, as (n, outcome's job, outcome's n).
        cursor: where the listing goes on; ``None`` once it is complete.
        after: the cursor that the page goes on from; ``None`` at the beginning.
    """

    chunks: Sequence[Sequence[Item]]
    skipped: Sequence[tuple[int, str, int]]
    cursor: str | None
    after: str | None = None


class Ledger:
    """The ledger of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, job_id: str, page: Page) -> range | None:
        """Write a page: its chunks, its skipped items and the cursor, or nothing of it.

        Returns:
            The ``seq`` of the new chunks; ``None`` where nothing was written since the job is no
            longer listing or its cursor is another by now.
        """
        fresh = sum(len(items) for items in page.chunks)
        grow = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == JobState.LISTING)
            .where(jobs.c.cursor.is_not_distinct_from(page.after))
            .values(
                cursor=page.cursor,
                listed=jobs.c.listed + fresh + len(page.skipped),
                skipped=jobs.c.skipped + len(page.skipped),
                chunks=jobs.c.chunks + len(page.chunks),
                pending=jobs.c.pending + len(page.chunks),
            )
            .returning(jobs.c.chunks)
        )
        with self._database.write() as connection:
            end = connection.scalar(grow)
            if end is None:
                return None
            seqs = range(end - len(page.chunks), end)
            insert_chunks(connection, job_id, seqs, page.chunks)
            if page.skipped:
                names = ("n", "outcome_job_id", "outcome_n")
                connection.execute(
                    skipped.insert(),
                    [
                        {"job_id": job_id, **dict(zip(names, row, strict=True))}
                        for row in page.skipped
                    ],
                )
            if page.cursor is None:
                _end_listing(connection, job_id)
        return seqs

    def open_items(self, job_id: str) -> Iterator[Item]:
        """The items of a job's chunks that are not done, chunk by chunk."""
        unfinished = and_(chunks.c.job_id == job_id, chunks.c.state != ChunkState.DONE)
        with self._database.read() as connection:
            for text in connection.scalars(select(chunks.c["items"]).where(unfinished)):
                yield from load_items(text)

    def claim(self, job_id: str, seq: int, *, lane: str, lease_s: float) -> ClaimedChunk | None:
        """Take a chunk for a lane, or learn that it is not to be had.

        Args:
            job_id: the chunk's job.
            seq: the chunk's number in it.
            lane: who asks.
            lease_s: for how long the claim holds against others.

        Returns:
            The chunk, or ``None`` where it is done, held by another lane, or its job ended or
            is paused.
        """
        now = epoch_now()
        # What is put off has a lease too, which ends when its time has come.
        free = or_(chunks.c.state == ChunkState.QUEUED, chunks.c.lease_until < now)
        mine = and_(chunks.c.job_id == job_id, chunks.c.seq == seq)
        take = (
            update(chunks)
            .where(mine, chunks.c.state != ChunkState.DONE, free)
            .where(exists().where(jobs.c.id == job_id, is_open()))
            .values(
                state=ChunkState.CLAIMED,
                attempt=chunks.c.attempt + 1,
                # Whoever had it claimed did not end it.
                losses=chunks.c.losses + case((chunks.c.state == ChunkState.CLAIMED, 1), else_=0),
                lease_until=now + lease_s,
                lane=lane,
            )
            .returning(chunks.c.attempt, chunks.c.losses, chunks.c.was_put_off, chunks.c["items"])
        )
        with self._database.write() as connection:
            taken = connection.execute(take).one_or_none()
            if taken is None:
                return None
            asked = connection.execute(
                select(jobs.c.model, jobs.c.top_k, jobs.c.priority).where(jobs.c.id == job_id)
            ).one()
        return ClaimedChunk(
            job=job_id,
            seq=seq,
            attempt=taken.attempt,
            losses=taken.losses,
            was_put_off=taken.was_put_off,
            priority=Priority(asked.priority),
            model=asked.model,
            top_k=asked.top_k,
            items=load_items(taken[3]),
        )

    def commit(self, claim: ClaimedChunk, found: Sequence[Outcome], summary: ChunkSummary) -> int:
        """Write the outcomes of a claimed chunk, all of them or none.

        Items that could not be read for a reason that may pass are put off once: they become a
        chunk for later, and have no outcome yet.

        Returns:
            How many items were put off.

        Raises:
            ClaimLost: if another lane has claimed the chunk since; nothing was written.
            ValueError: if the outcomes are not those of the chunk's items.
        """
        if sorted(outcome.n for outcome in found) != sorted(item.n for item in claim.items):
            raise ValueError(
                f"chunk {claim.job}/{claim.seq} has {len(claim.items)} items, "
                f"its {len(found)} outcomes are not theirs"
            )
        later = {outcome.n for outcome in found if outcome.error in claim.put_off_codes}
        with self._database.write() as connection:
            close(connection, claim, summary)
            if later:
                (seq,) = add_chunks(connection, claim.job, 1)
                put_off(connection, claim.job, seq, [i for i in claim.items if i.n in later])
            end_chunk(connection, claim.job, [each for each in found if each.n not in later])
        return len(later)

    def release(self, claim: ClaimedChunk) -> None:
        """Put a claimed chunk back as it was: nobody worked on it."""
        with self._database.write() as connection:
            connection.execute(
                update(chunks)
                .where(is_held(claim.job, claim.seq, claim.attempt))
                .values(**given_back(claim.job))
            )


def close(connection: Connection, claim: ClaimedChunk, summary: ChunkSummary) -> None:
    """Set a chunk done where the claim is still the newest.

    Raises:
        ClaimLost: if it is not.
    """
    closed = connection.execute(
        update(chunks)
        .where(is_held(claim.job, claim.seq, claim.attempt))
        .values(
            state=ChunkState.DONE,
            lease_until=None,
            summary=json.dumps(dataclasses.asdict(summary), separators=(",", ":")),
            committed_at=epoch_now(),
        )
    )
    if closed.rowcount != 1:
        raise ClaimLost(f"chunk {claim.job}/{claim.seq}: attempt {claim.attempt} is over")


def add_chunks(connection: Connection, job_id: str, count: int) -> range:
    """Count new chunks in their job.

    Returns:
        Their ``seq``.
    """
    end = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(chunks=jobs.c.chunks + count, pending=jobs.c.pending + count)
        .returning(jobs.c.chunks)
    ).scalar_one()
    return range(end - count, end)


def end_chunk(connection: Connection, job_id: str, found: Sequence[Outcome] = ()) -> None:
    """Write the outcomes of a closed chunk and count both, which may end its job, or pause it."""
    if found:
        upsert(connection, job_id, found)
    ok = sum(outcome.status is Status.OK for outcome in found)
    is_last = and_(jobs.c.pending == 1, jobs.c.state == JobState.RUNNING)
    job = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            ok=jobs.c.ok + ok,
            failed=jobs.c.failed + len(found) - ok,
            pending=jobs.c.pending - 1,
            **_finished_when(is_last),
        )
        .returning(*breaker.LOOKED_AT)
    ).one()
    breaker.look(connection, job)


def _end_listing(connection: Connection, job_id: str) -> None:
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.LISTING)
        .values(**_finished_when(jobs.c.pending == 0, otherwise=JobState.RUNNING))
    )


def _finished_when(condition: Any, otherwise: JobState | None = None) -> dict[str, Any]:
    """Values that end a job where the condition holds."""
    state = jobs.c.state if otherwise is None else otherwise
    return {
        "state": case((condition, JobState.DONE), else_=state),
        "finished_at": case((condition, epoch_now()), else_=jobs.c.finished_at),
        "paused": case((condition, None), else_=jobs.c.paused),
    }
