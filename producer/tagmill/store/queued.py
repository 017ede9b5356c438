"""Chunks that wait for a lane: how they come into the ledger, and when they are named again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, and_, case, select

from tagmill.contract import UNFINISHED, ChunkState, Item, dump_items
from tagmill.store.schema import chunks, epoch_now, jobs

NAMED_AGAIN_S = 600.0
"""After that long without a claim, a queued chunk's message may have been lost."""

PUT_OFF_S = 30.0
"""Before what could not be read is tried once more, and up to half as long again."""


def insert_chunks(
    connection: Connection,
    job_id: str,
    seqs: range,
    new: Sequence[Sequence[Item]],
    *,
    losses: int = 0,
    state: ChunkState = ChunkState.QUEUED,
    wait_s: float = NAMED_AGAIN_S,
    was_put_off: bool = False,
) -> None:
    """Write new chunks of a job in a transaction.

    Args:
        connection: in a transaction that has counted the chunks in their job.
        job_id: the job.
        seqs: their numbers.
        new: the items of each.
        losses: lanes that died on them before.
        state: queued, or put off.
        wait_s: before the tick names them.
        was_put_off: their items are tried for the last time.
    """
    if not new:
        return
    rows = [
        {"job_id": job_id, "seq": seq, "size": len(items), "items": dump_items(items)}
        for seq, items in zip(seqs, new, strict=True)
    ]
    insert = chunks.insert().values(
        state=state,
        attempt=0,
        losses=losses,
        was_put_off=was_put_off,
        lease_until=epoch_now() + wait_s,
    )
    connection.execute(insert, rows)


def put_off(connection: Connection, job_id: str, seq: int, items: Sequence[Item]) -> None:
    """Write a chunk of items that could not be read; the tick queues it when its time comes."""
    insert_chunks(
        connection,
        job_id,
        range(seq, seq + 1),
        [items],
        state=ChunkState.PUT_OFF,
        wait_s=PUT_OFF_S * random.uniform(1.0, 1.5),  # noqa: S311  # so that not all come at once
        was_put_off=True,
    )


def named_again_at(job_id: str) -> ScalarSelect[float]:
    """When the tick names a queued chunk again: in ten minutes, or in the age of its job.

    So that a chunk that waits for days is named a dozen times, not thousands.
    """
    age = epoch_now() - jobs.c.created_at
    wait = case((age > NAMED_AGAIN_S, age), else_=NAMED_AGAIN_S)
    return select(epoch_now() + wait).where(jobs.c.id == job_id).scalar_subquery()


def is_open() -> ColumnElement[bool]:
    """True of a job whose chunks lanes may take."""
    return and_(jobs.c.state.in_(UNFINISHED), jobs.c.paused.is_(None))


def is_held(job_id: str, seq: int, attempt: int) -> ColumnElement[bool]:
    """True of a chunk that was claimed by that attempt, and given to nobody since.

    It may be queued: where a store was away for long, the tick finds leases that ran out before
    their lanes can renew them, and what such a lane has done counts until another one has claimed.
    """
    return and_(
        chunks.c.job_id == job_id,
        chunks.c.seq == seq,
        chunks.c.state.in_([ChunkState.CLAIMED, ChunkState.QUEUED]),
        chunks.c.attempt == attempt,
        chunks.c.attempt > 0,
    )


def given_back(job_id: str) -> dict[str, Any]:
    """Values of a chunk whose claim is over for good, which nobody has now."""
    return {
        "state": ChunkState.QUEUED,
        "attempt": chunks.c.attempt + 1,
        "lease_until": named_again_at(job_id),
    }
