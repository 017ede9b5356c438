"""Who may do a training: claims, leases, and their ends.

A training goes queued → running → done, failed or cancelled. A claim raises ``attempt``, the
fencing token: whatever a lane writes counts only while ``attempt`` is still its claim's. Of one
model only one training runs at a time. What a killed lane had in hand is queued again by the tick
once its lease is over, and goes on from its checkpoints.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, select, update

from tagmill.errors import ClaimLost
from tagmill.store.aliases import lock_alias, move_alias, read_alias
from tagmill.store.database import Database
from tagmill.store.schema import epoch_now, trainings
from tagmill.training import UNFINISHED, TrainingRequest, TrainingResult, TrainingState

MOST_LOSSES_HERE = 4
"""A training that lost its lane so often at one place, each time coming no further, is at fault
itself, and fails. One more than what three kills can do to a sound one."""

MOST_LOSSES = 20
"""Wherever it was lost: no training is begun for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedTraining:
    """A training that this lane owns until its lease ends.

    Attributes:
        attempt: the fencing token.
        champion: the version that ``name@champion`` means now, if any.
        known_fingerprint: of the dataset of the last such training, where an unchanged one is to
            be skipped.
    """

    id: str
    attempt: int
    request: TrainingRequest
    champion: int | None
    known_fingerprint: str | None


class TrainingClaims:
    """The claims on the trainings of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, training_id: str, *, lane: str, lease_s: float) -> ClaimedTraining | None:
        """Take a queued training for a lane.

        A message that the broker delivers again is no reason to: a training takes longer than any
        broker waits, and its lane may well be at it.

        Returns:
            The training, or ``None`` where it is not queued, or another of its model is running.
        """
        wanted = select(trainings.c.name).where(
            trainings.c.id == training_id, trainings.c.state == TrainingState.QUEUED
        )
        with self._database.write() as connection:
            name = connection.scalar(wanted)
            if name is None:
                return None
            # Whoever claims one of the same model at the same time waits here.
            other = trainings.alias()
            same = and_(trainings.c.name == name, trainings.c.state.in_(UNFINISHED))
            connection.execute(
                select(trainings.c.id).where(same).order_by(trainings.c.id).with_for_update()
            )
            row = connection.execute(
                update(trainings)
                .where(trainings.c.id == training_id, trainings.c.state == TrainingState.QUEUED)
                .where(
                    ~exists().where(other.c.name == name, other.c.state == TrainingState.RUNNING)
                )
                .values(
                    state=TrainingState.RUNNING,
                    attempt=trainings.c.attempt + 1,
                    lane=lane,
                    lease_until=epoch_now() + lease_s,
                    started_at=epoch_now(),
                )
                .returning(trainings.c.attempt, trainings.c.request)
            ).one_or_none()
            if row is None:
                return None
            request = TrainingRequest.load(row.request)
            known = _known_fingerprint(connection, request) if request.skip_unchanged else None
            champion = read_alias(connection, name)
        return ClaimedTraining(
            id=training_id,
            attempt=row.attempt,
            request=request,
            champion=champion,
            known_fingerprint=known,
        )

    def renew(
        self, claim: ClaimedTraining, *, lease_s: float, stage: str, done: int, total: int
    ) -> bool:
        """Renew a lease, and say how far the training is.

        Returns:
            False where the claim is over: the training was cancelled, or another lane has it.
        """
        values = {"lease_until": epoch_now() + lease_s, "stage": stage[:80]}
        return self._set_held(claim, **values, done=done, total=total)

    def finish(self, claim: ClaimedTraining, result: TrainingResult) -> bool:
        """Write what a training came to, and promote its version where it is better.

        The alias moves in the same transaction, and only where it still means the version that the
        new one was compared with, or nothing yet.

        Returns:
            True where it became the champion.

        Raises:
            ClaimLost: if the claim is over; nothing was written, nothing was promoted.
        """
        said, promoted = result.said, False
        name = claim.request.name
        with self._database.write() as connection:
            if result.is_better and result.version is not None:
                champion = lock_alias(connection, name)
                promoted = champion in (None, result.compared_with)
                if not promoted:
                    said += f"; not promoted, as the champion became {name}@{champion} meanwhile"
            ended = _end(
                connection,
                claim,
                TrainingState.DONE,
                said=said,
                fingerprint=result.fingerprint,
                version=result.version,
                promoted=promoted,
                result=json.dumps(result.about),
            )
            if not ended:
                raise ClaimLost(f"training {claim.id}: attempt {claim.attempt} is over")
            if promoted and result.version is not None:
                move_alias(
                    connection,
                    name,
                    before=result.compared_with,
                    version=result.version,
                    why=claim.id,
                )
        return promoted

    def fail(self, claim: ClaimedTraining, said: str) -> bool:
        """End a training that cannot come to anything; False where the claim is over."""
        with self._database.write() as connection:
            return _end(connection, claim, TrainingState.FAILED, said=said)

    def give_back(self, claim: ClaimedTraining) -> None:
        """Queue a training again that its lane cannot go on with, through no fault of its."""
        self._set_held(claim, **_QUEUED)

    def take_back(self, training_id: str, *, lane: str) -> bool:
        """Queue a training again whose trainer ended with its lane's worker, if it is still its."""
        mine = and_(
            trainings.c.id == training_id,
            trainings.c.state == TrainingState.RUNNING,
            trainings.c.lane == lane,
        )
        with self._database.write() as connection:
            done = connection.execute(update(trainings).where(mine).values(**_QUEUED))
        return done.rowcount == 1

    def release_expired(self, training_id: str | None = None) -> list[str]:
        """Queue trainings whose lease ran out; one that lost its lane too often fails instead.

        Args:
            training_id: queue that one now, as nobody can be at work on it.

        Returns:
            The ids of those that are queued again.
        """
        running = trainings.c.state == TrainingState.RUNNING
        over = (
            trainings.c.lease_until < epoch_now()
            if training_id is None
            else trainings.c.id == training_id
        )
        wanted = (
            select(*(trainings.c[name] for name in _OF_LOSSES))
            .where(running, over)
            .with_for_update(skip_locked=True)
        )
        queued = []
        with self._database.write() as connection:
            for row in connection.execute(wanted).all():
                values = _QUEUED if training_id is not None else _lost(row)
                connection.execute(
                    update(trainings).where(trainings.c.id == row.id).values(**values)
                )
                if values["state"] is TrainingState.QUEUED:
                    queued.append(row.id)
        return queued

    def _set_held(self, claim: ClaimedTraining, **values: Any) -> bool:
        with self._database.write() as connection:
            done = connection.execute(update(trainings).where(_is_held(claim)).values(**values))
        return done.rowcount == 1


_QUEUED: dict[str, Any] = {"state": TrainingState.QUEUED, "lease_until": None, "lane": None}

_OF_LOSSES = ("id", "stage", "done", "losses", "losses_here", "lost_stage", "lost_done")


def _lost(row: Row[tuple[Any, ...]]) -> dict[str, Any]:
    """What becomes of a training that lost its lane."""
    came_further = row.stage != row.lost_stage or row.done > (row.lost_done or 0)
    losses, here = row.losses + 1, 1 if came_further else row.losses_here + 1
    values: dict[str, Any] = {"losses": losses, "losses_here": here}
    if came_further:
        values |= {"lost_stage": row.stage, "lost_done": row.done}
    if here < MOST_LOSSES_HERE and losses < MOST_LOSSES:
        return values | _QUEUED
    where = f", {here} of them in a row at {row.stage or 'its beginning'}"
    return values | {
        "state": TrainingState.FAILED,
        "lane": None,
        "finished_at": epoch_now(),
        "said": f"its lane was lost {losses} times{where}: killed, out of memory, or gone",
    }


def _end(
    connection: Connection, claim: ClaimedTraining, state: TrainingState, **values: Any
) -> bool:
    ended = connection.execute(
        update(trainings)
        .where(_is_held(claim))
        .values(state=state, finished_at=epoch_now(), lease_until=None, **values)
    )
    return ended.rowcount == 1


def _is_held(claim: ClaimedTraining) -> ColumnElement[bool]:
    return and_(
        trainings.c.id == claim.id,
        trainings.c.state == TrainingState.RUNNING,
        trainings.c.attempt == claim.attempt,
    )


def _known_fingerprint(connection: Connection, request: TrainingRequest) -> str | None:
    """Of the newest training done of the same request, whether or not it was to skip anything."""
    same = [replace(request, skip_unchanged=skips).dump() for skips in (False, True)]
    found: str | None = connection.scalar(
        select(trainings.c.fingerprint)
        .where(trainings.c.request.in_(same), trainings.c.state == TrainingState.DONE)
        .order_by(trainings.c.finished_at.desc())
        .limit(1)
    )
    return found
