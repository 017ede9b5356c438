"""Lanes: who is alive, doing what, how fast; and the renewal of their leases."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Insert, case, delete, select, update

from tagmill.contract import TRAIN_QUEUE, ChunkState, ClaimedChunk
from tagmill.store.database import Database
from tagmill.store.outcomes import insert_for
from tagmill.store.queued import is_held
from tagmill.store.schema import chunks, epoch_now, lanes

SEEN_WITHIN_S = 30.0
"""A lane that was not seen for that long is not alive: it missed several beats."""

GONE_AFTER_S = 3600.0
"""For how long a lane that was not seen any more is remembered."""


class LaneState(enum.StrEnum):
    """What a lane is doing."""

    STARTING = "starting"
    IDLE = "idle"
    LABELLING = "labelling"
    TRAINING = "training"


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneNote:
    """What a lane says of itself.

    Attributes:
        name: as ``label-cpu0@host``.
        device: core or GPU that it is pinned to, for people.
        job_id: of the chunk in hand, with ``seq``.
        model: the version loaded last, as ``name@number``.
        release: of tagmill that it runs; ``None`` of one from before releases were noted.
        done: items since its start.
        rate: images/s over its last chunks, waiting included.
        started_at: seconds since the epoch by the store's clock; 0 in what a lane writes.
        seen_s_ago: seconds since it was seen last; 0 in what a lane writes.
    """

    name: str
    pid: int
    device: str
    state: LaneState
    job_id: str | None = None
    seq: int | None = None
    model: str | None = None
    release: str | None = None
    done: int = 0
    rate: float = 0.0
    started_at: float = 0.0
    seen_s_ago: float = 0.0

    @property
    def trains(self) -> bool:
        """True of a lane that takes trainings, and no images."""
        return self.name.startswith(f"{TRAIN_QUEUE}-")


class Lanes:
    """The lanes of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, note: LaneNote, *, claim: ClaimedChunk | None = None, lease_s: float) -> bool:
        """Write that a lane is alive, and renew the lease of the chunk that it has in hand.

        Args:
            note: of the lane; its first one sets the start.
            claim: the chunk in hand.
            lease_s: for how long the claim holds from now on.

        Returns:
            False where the claim is over: another lane has the chunk, or it is done.
        """
        values = asdict(note)
        del values["started_at"], values["seen_s_ago"]
        with self._database.write() as connection:
            insert, new = insert_for(connection, lanes, values)
            # A lane of that name in another process has begun anew.
            started = case((lanes.c.pid == note.pid, lanes.c.started_at), else_=epoch_now())
            statement: Insert = insert.on_conflict_do_update(
                index_elements=["name"],
                set_={**new, "seen_at": epoch_now(), "started_at": started},
            )
            connection.execute(
                statement.values(started_at=epoch_now(), seen_at=epoch_now()), [values]
            )
            if claim is None:
                return True
            renewed = connection.execute(
                update(chunks)
                .where(is_held(claim.job, claim.seq, claim.attempt))
                .values(
                    state=ChunkState.CLAIMED,
                    # Who queued it meanwhile took this lane for lost.
                    losses=chunks.c.losses
                    - case((chunks.c.state == ChunkState.QUEUED, 1), else_=0),
                    lease_until=epoch_now() + lease_s,
                )
            )
        return renewed.rowcount == 1

    def leave(self, name: str, *, pid: int) -> None:
        """Forget a lane that ended in good order."""
        with self._database.write() as connection:
            connection.execute(delete(lanes).where(lanes.c.name == name, lanes.c.pid == pid))

    def alive(self, *, within_s: float) -> Sequence[LaneNote]:
        """The lanes that were seen within that many seconds, by name."""
        ago = (epoch_now() - lanes.c.seen_at).label("seen_s_ago")
        names = [name for name in LaneNote.__slots__ if name != "seen_s_ago"]
        wanted = (
            select(*(lanes.c[name] for name in names), ago)
            .where(lanes.c.seen_at >= epoch_now() - within_s)
            .order_by(lanes.c.name)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [LaneNote(**{**row._mapping, "state": LaneState(row.state)}) for row in rows]

    def forget_gone(self) -> None:
        """Forget lanes that were not seen for long."""
        with self._database.write() as connection:
            connection.execute(delete(lanes).where(lanes.c.seen_at < epoch_now() - GONE_AFTER_S))
