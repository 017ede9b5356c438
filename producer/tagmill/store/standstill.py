"""What stands still in the ledger, and why: read by `doctor`, changed by nobody here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from tagmill.contract import UNFINISHED, ChunkState
from tagmill.store.database import Database
from tagmill.store.queued import is_open
from tagmill.store.schema import chunks, epoch_now, jobs

_NOT_DONE = [state for state in ChunkState if state is not ChunkState.DONE]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overdue:
    """Chunks that a tick should have sent again.

    Attributes:
        longest_s: for how long the one has waited that waits longest.
    """

    chunks: int
    longest_s: float


class Standstill:
    """What stands still in a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def paused(self, limit: int) -> Sequence[tuple[str, str]]:
        """Jobs that are paused, newest first, as (id, why)."""
        wanted = (
            select(jobs.c.id, jobs.c.paused)
            .where(jobs.c.paused.is_not(None), jobs.c.state.in_(UNFINISHED))
            .order_by(jobs.c.created_at.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(row.id, row.paused) for row in connection.execute(wanted)]

    def overdue(self, by_s: float) -> Overdue:
        """Chunks of open jobs whose lease ran out, or whose time to be sent again came, long ago.

        Args:
            by_s: for how long already.
        """
        wanted = (
            select(func.count(), func.max(epoch_now() - chunks.c.lease_until))
            .select_from(chunks.join(jobs, jobs.c.id == chunks.c.job_id))
            .where(chunks.c.state.in_(_NOT_DONE), chunks.c.lease_until < epoch_now() - by_s)
            .where(is_open())
        )
        with self._database.read() as connection:
            count, longest_s = connection.execute(wanted).one()
        return Overdue(chunks=count, longest_s=float(longest_s or 0.0))

    def queued(self) -> int:
        """How many chunks of open jobs wait for a lane."""
        wanted = (
            select(func.count())
            .select_from(chunks.join(jobs, jobs.c.id == chunks.c.job_id))
            .where(chunks.c.state == ChunkState.QUEUED, is_open())
        )
        with self._database.read() as connection:
            return int(connection.scalar(wanted) or 0)
