"""Chunks that wait for a lane: how they come into the ledger, and when they are named again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, ScalarSelect, and_, case, select

from tagmill.contract import UNFINISHED, ChunkState, Item, dump_items
from tagmill.store.schema import chunks, epoch_now, jobs

NAMED_AGAIN_S = 600.0
"""After that long without a claim, a queued chunk's message may have been lost."""


def insert_chunks(
    connection: Connection, job_id: str, seqs: range, new: Sequence[Sequence[Item]]
) -> None:
    """Write new chunks of a job in a transaction, queued."""
    if not new:
        return
    rows = [
        {"job_id": job_id, "seq": seq, "size": len(items), "items": dump_items(items)}
        for seq, items in zip(seqs, new, strict=True)
    ]
    insert = chunks.insert().values(
        state=ChunkState.QUEUED, attempt=0, losses=0, lease_until=epoch_now() + NAMED_AGAIN_S
    )
    connection.execute(insert, rows)


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
