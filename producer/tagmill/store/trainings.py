"""Trainings: what was asked for, how far it is, and what it came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from tagmill.errors import UnknownTraining
from tagmill.store.database import Database
from tagmill.store.jobs import new_id
from tagmill.store.schema import epoch_now, trainings
from tagmill.training import UNFINISHED, TrainingRequest, TrainingState, TrainMessage


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training as the store has it.

    Attributes:
        schedule: that asked for it, ``None`` where a person did.
        losses: how often its lane died.
        stage: what it is doing, with ``done`` of ``total`` of it.
        version: the number of the version that it made.
        promoted: that version became the champion.
        said: one sentence on what it came to.
        result: metrics and the report's path.
        created_at: seconds since the epoch, like the other times.
    """

    id: str
    request: TrainingRequest
    schedule: str | None
    state: TrainingState
    losses: int
    lane: str | None
    stage: str | None
    done: int
    total: int
    fingerprint: str | None
    version: int | None
    promoted: bool
    said: str | None
    result: dict[str, Any]
    created_at: float
    started_at: float | None
    finished_at: float | None


_COLUMNS = [trainings.c[name] for name in Training.__slots__]


class Trainings:
    """The trainings of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, request: TrainingRequest) -> Training:
        """The training of a request that has not ended, queued where there is none."""
        text = request.dump()
        with self._database.write() as connection:
            if self._database.is_shared:  # SQLite's write lock is held already
                connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(text))))
            training_id = connection.scalar(_unfinished(text, trainings.c.id))
            if training_id is None:
                training_id = insert_training(connection, request)
        return self.get(training_id)

    def create(self, request: TrainingRequest) -> Training:
        """Queue a training."""
        with self._database.write() as connection:
            training_id = insert_training(connection, request)
        return self.get(training_id)

    def get(self, training_id: str) -> Training:
        """The training of that id, or of the only id that begins so.

        Raises:
            UnknownTraining: if there is none, or more than one.
        """
        wanted = select(*_COLUMNS).where(trainings.c.id.startswith(training_id, autoescape=True))
        rows: Sequence[Row[tuple[Any, ...]]] = ()
        if training_id.isascii() and training_id.isprintable():  # else no database need be asked
            with self._database.read() as connection:
                rows = connection.execute(wanted.limit(2)).all()
        if len(rows) != 1 or not training_id:
            which = "more than one training begins" if len(rows) > 1 else "no training"
            raise UnknownTraining(f"{which} {training_id!r} in {self._database.name}")
        return _training(rows[0])

    def recent(self, limit: int = 20) -> list[Training]:
        """The newest trainings, newest first."""
        wanted = select(*_COLUMNS).order_by(trainings.c.created_at.desc()).limit(limit)
        with self._database.read() as connection:
            return [_training(row) for row in connection.execute(wanted)]

    def unfinished(self, request: TrainingRequest) -> Training | None:
        """The oldest training of the same request that has not ended."""
        with self._database.read() as connection:
            row = connection.execute(_unfinished(request.dump(), *_COLUMNS)).one_or_none()
        return None if row is None else _training(row)

    def cancel(self, training_id: str) -> bool:
        """End a training; its lane notices at its next renewal. False where it had ended."""
        unfinished = trainings.c.state.in_(UNFINISHED)
        with self._database.write() as connection:
            done = connection.execute(
                update(trainings)
                .where(trainings.c.id == training_id, unfinished)
                .values(state=TrainingState.CANCELLED, finished_at=epoch_now(), said="by hand")
            )
        return done.rowcount == 1

    def waiting(self) -> list[TrainMessage]:
        """A message for every queued training that could run now, oldest first."""
        running = select(trainings.c.name).where(trainings.c.state == TrainingState.RUNNING)
        wanted = (
            select(trainings.c.id)
            .where(trainings.c.state == TrainingState.QUEUED, trainings.c.name.not_in(running))
            .order_by(trainings.c.created_at)
            .limit(100)
        )
        with self._database.read() as connection:
            return [TrainMessage(training=found) for found in connection.scalars(wanted)]


def insert_training(
    connection: Connection, request: TrainingRequest, *, schedule: str | None = None
) -> str:
    """Queue a training in a transaction; its id, whose ``t`` tells it from a job's."""
    training_id = f"t{new_id()}"
    connection.execute(
        trainings.insert().values(
            id=training_id,
            name=request.name,
            request=request.dump(),
            schedule=schedule,
            state=TrainingState.QUEUED,
            created_at=epoch_now(),
        )
    )
    return training_id


def _unfinished(request: str, *columns: Any) -> Select[Any]:
    """The oldest training of a request that has not ended."""
    return (
        select(*columns)
        .where(trainings.c.request == request, trainings.c.state.in_(UNFINISHED))
        .order_by(trainings.c.created_at)
        .limit(1)
    )


def _training(row: Row[tuple[Any, ...]]) -> Training:
    values: dict[str, Any] = dict(row._mapping)
    values["request"] = TrainingRequest.load(values["request"])
    values["state"] = TrainingState(values["state"])
    values["result"] = json.loads(values["result"]) if values["result"] else {}
    return Training(**values)
