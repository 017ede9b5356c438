"""Jobs, claims and outcomes for tests of the store."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update

from tagmill.contract import (
    ChunkSummary,
    ClaimedChunk,
    ErrorCode,
    Item,
    Label,
    Outcome,
    Status,
)
from tagmill.store import Job, Page, Store
from tagmill.store.schema import chunks

MODEL = "m@1"
SUMMARY = ChunkSummary(lane="lane", seen={"cat": 1})


def items(count: int, start: int = 0) -> list[Item]:
    return [Item(n=n, uri=f"file:///{n}.jpg", version="1-2") for n in range(start, start + count)]


def job_with(store: Store, *sizes: int, top_k: int = 5, fresh_since: float | None = 0.0) -> Job:
    """A job whose listing is complete, with chunks of these sizes."""
    job = store.jobs.create(source="file:///x", model=MODEL, top_k=top_k, fresh_since=fresh_since)
    chunks, start = [], 0
    for size in sizes:
        chunks.append(items(size, start))
        start += size
    store.ledger.append(job.id, Page(chunks=chunks, skipped=[], cursor=None))
    return store.jobs.get(job.id)


def claim(store: Store, job: Job, seq: int = 0) -> ClaimedChunk:
    found = store.ledger.claim(job.id, seq, lane="lane", lease_s=60)
    assert found is not None
    return found


def overtaking(store: Store, job: Job, seq: int = 0) -> ClaimedChunk:
    """A claim on a chunk that another lane had, whose lease ran out."""
    let_time_pass(store, 120)
    return claim(store, job, seq)


def let_time_pass(store: Store, passed_s: float) -> None:
    """Let leases and waits end that much earlier."""
    earlier = {"lease_until": chunks.c.lease_until - passed_s}
    with store.database.write() as connection:
        connection.execute(update(chunks).values(earlier))


def outcomes(chunk: ClaimedChunk, error: ErrorCode | None = None) -> list[Outcome]:
    label = Label(id="n1", name='Ä cat, "quoted"', score=0.25)
    return [
        Outcome(
            n=item.n,
            uri=item.uri,
            version=item.version,
            status=Status.FAILED if error else Status.OK,
            error=error,
            message="why" if error else None,
            width=None if error else 3,
            height=None if error else 4,
            labels=() if error else (label,),
        )
        for item in chunk.items
    ]


def ending_in(chunk: ClaimedChunk, codes: Sequence[ErrorCode | None]) -> list[Outcome]:
    """Outcomes of a chunk whose items end so, one after the other."""
    ends = {code: outcomes(chunk, code) for code in codes}
    return [ends[code][index] for index, code in enumerate(codes)]


def ended(store: Store, job: Job, seq: int = 0, error: ErrorCode | None = None) -> None:
    """Claim a chunk and commit it."""
    chunk = claim(store, job, seq)
    store.ledger.commit(chunk, outcomes(chunk, error), SUMMARY)
