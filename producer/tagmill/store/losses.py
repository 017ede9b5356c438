"""Losses: what becomes of a chunk whose lane was lost, down to the one item that ends them all.

Where the item is known that the lane had in hand, it goes into a chunk of its own, and the rest
goes on without it. Where it is not, a chunk that was lost twice is halved. Either way an item that
keeps losing its lane ends up alone, and then is an outcome.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from tagmill.contract import (
    ChunkMessage,
    ChunkState,
    ChunkSummary,
    ClaimedChunk,
    ErrorCode,
    Item,
    Outcome,
    Priority,
    Status,
    load_items,
)
from tagmill.store.database import Database
from tagmill.store.ledger import add_chunks, close, end_chunk
from tagmill.store.queued import given_back, insert_chunks, is_held
from tagmill.store.schema import chunks, jobs

MOST_LOSSES = 2
"""Lanes that may be lost on a chunk before it is halved."""

MOST_LOSSES_ALONE = 3
"""Lanes that may be lost on an item, once in company and then alone: fewer, and a lane that is
killed for another reason could cost an image that is well."""


def is_given_up(claim: ClaimedChunk) -> bool:
    """True where a chunk has lost so many lanes that it is not done as a whole any more."""
    return claim.losses >= (MOST_LOSSES if len(claim.items) > 1 else MOST_LOSSES_ALONE)


class Losses:
    """The losses of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def split(self, claim: ClaimedChunk, *, lane: str) -> range:
        """Give up on a claimed chunk as a whole: two halves take its place.

        A chunk of one item becomes that item's outcome `lane_lost` instead.

        Returns:
            The ``seq`` of the halves; empty for a chunk of one item.

        Raises:
            ClaimLost: if another lane has claimed the chunk since; nothing was written.
        """
        middle = len(claim.items) // 2
        with self._database.write() as connection:
            if not middle:
                _record(connection, claim, lane, "no word of why came through")
                return range(0)
            return _replace(connection, claim, lane, [claim.items[:middle], claim.items[middle:]])

    def note(
        self, job_id: str, seq: int, *, lane: str, attempt: int, in_hand: Sequence[int], why: str
    ) -> Sequence[ChunkMessage]:
        """Write that a lane was lost with a chunk.

        Args:
            job_id: the chunk's job.
            seq: the chunk's number in it.
            lane: that was lost.
            attempt: of its claim; a later claim is left alone.
            in_hand: ``n`` of the items that it was decoding or labelling, as far as known.
            why: it was lost, as a phrase: "killed by SIGABRT".

        Returns:
            Messages for the chunks that take its place, where some do. Else the broker delivers
            the message of the chunk once more, as it does for a lane that was lost.
        """
        still = is_held(job_id, seq, attempt)
        wanted = (
            select(
                chunks.c.state,
                chunks.c.losses,
                chunks.c.was_put_off,
                chunks.c["items"].label("text"),
                jobs.c.model,
                jobs.c.top_k,
                jobs.c.priority,
            )
            .join(jobs, jobs.c.id == chunks.c.job_id)
            .where(still)
            .with_for_update(of=chunks)
        )
        with self._database.write() as connection:
            found = connection.execute(wanted).one_or_none()
            if found is None:
                return ()
            claim = ClaimedChunk(
                job=job_id,
                seq=seq,
                attempt=attempt,
                losses=found.losses + (found.state == ChunkState.CLAIMED),  # else it was counted
                was_put_off=found.was_put_off,
                priority=Priority(found.priority),
                model=found.model,
                top_k=found.top_k,
                items=load_items(found.text),
            )
            if len(claim.items) == 1 and is_given_up(claim):
                _record(connection, claim, lane, why)
                return ()
            suspects = [item for item in claim.items if item.n in in_hand]
            rest = [item for item in claim.items if item.n not in in_hand]
            if not (suspects and rest):
                released = (
                    update(chunks).where(still).values(losses=claim.losses, **given_back(job_id))
                )
                connection.execute(released)
                return ()
            seqs = _replace(connection, claim, lane, [rest], [[item] for item in suspects])
        return [ChunkMessage(job=job_id, seq=each, priority=claim.priority) for each in seqs]


def _replace(
    connection: Connection,
    claim: ClaimedChunk,
    lane: str,
    parts: Sequence[Sequence[Item]],
    suspects: Sequence[Sequence[Item]] = (),
) -> range:
    """Put chunks in the place of a claimed one; one lane was lost on each of the suspects."""
    close(connection, claim, ChunkSummary(lane=lane))
    seqs = add_chunks(connection, claim.job, len(parts) + len(suspects))
    was_put_off = claim.was_put_off
    insert_chunks(connection, claim.job, seqs[: len(parts)], parts, was_put_off=was_put_off)
    insert_chunks(
        connection, claim.job, seqs[len(parts) :], suspects, losses=1, was_put_off=was_put_off
    )
    end_chunk(connection, claim.job)
    return seqs


def _record(connection: Connection, claim: ClaimedChunk, lane: str, why: str) -> None:
    """Make the one item of a claimed chunk the outcome `lane_lost`."""
    (item,) = claim.items
    lost = Outcome(
        n=item.n,
        uri=item.uri,
        version=item.version,
        status=Status.FAILED,
        error=ErrorCode.LANE_LOST,
        message=f"the lane died on this image {claim.losses} times: {why}",
    )
    close(connection, claim, ChunkSummary(lane=lane, failures={str(ErrorCode.LANE_LOST): 1}))
    end_chunk(connection, claim.job, [lost])
