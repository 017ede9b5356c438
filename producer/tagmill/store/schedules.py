"""Schedules: what becomes a training or a job by itself, and when.

However many ticks look at a schedule that is due, one fires it: the UPDATE that moves ``next_at``
on succeeds for the first only, and makes the training or the job in the same transaction.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from tagmill.errors import UnknownSchedule, UsageError
from tagmill.store.database import Database
from tagmill.store.outcomes import insert_for
from tagmill.store.schema import epoch_now, schedules


class ScheduleKind(enum.StrEnum):
    """What a schedule makes."""

    TRAIN = "train"
    LABEL = "label"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """One schedule.

    Attributes:
        cron: minute, hour, day of the month, month, day of the week.
        zone: the time zone by whose clocks it is due.
        request: what it makes, as JSON.
        next_at: when it is due, in seconds since the epoch, like the other times.
        last_at: when it fired last.
        last_id: of the training or job that it made last.
        last_said: why it made none when it fired last, or what became of what it made.
    """

    name: str
    cron: str
    zone: str
    kind: ScheduleKind
    request: str
    paused: bool
    next_at: float
    last_at: float | None
    last_id: str | None
    last_said: str | None


_COLUMNS = [schedules.c[name] for name in Schedule.__slots__]


class Schedules:
    """The schedules of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, name: str, *, cron: str, zone: str, kind: ScheduleKind, request: str, next_at: float
    ) -> Schedule:
        """Add a schedule.

        Raises:
            UsageError: if there is one of that name.
        """
        values = {"name": name, "cron": cron, "zone": zone, "kind": kind, "request": request}
        with self._database.write() as connection:
            insert, _ = insert_for(connection, schedules, ())
            added = insert.values(**values, next_at=next_at, paused=False, created_at=epoch_now())
            written = added.on_conflict_do_nothing().returning(schedules.c.name)
            if connection.scalar(written) is None:
                raise UsageError(f"there is a schedule {name!r} already: remove it first")
        return self.get(name)

    def get(self, name: str) -> Schedule:
        """The schedule of that name.

        Raises:
            UnknownSchedule: if there is none.
        """
        row = None
        if name.isprintable() and "\0" not in name:
            with self._database.read() as connection:
                row = connection.execute(
                    select(*_COLUMNS).where(schedules.c.name == name)
                ).one_or_none()
        if row is None:
            raise UnknownSchedule(f"no schedule {name!r}; 'tagmill schedule list' lists them")
        return _schedule(row)

    def all(self) -> Sequence[Schedule]:
        """All schedules, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(*_COLUMNS).order_by(schedules.c.name)).all()
        return [_schedule(row) for row in rows]

    def due(self, now: float | None = None) -> Sequence[Schedule]:
        """The schedules whose time has come, longest due first.

        Args:
            now: seconds since the epoch; the store's clock where ``None``.
        """
        moment = epoch_now() if now is None else now
        wanted = (
            select(*_COLUMNS)
            .where(schedules.c.paused.is_(False), schedules.c.next_at <= moment)
            .where(schedules.c.kind.in_(list(ScheduleKind)))  # a newer release may know others
            .order_by(schedules.c.next_at)
        )
        with self._database.read() as connection:
            return [_schedule(row) for row in connection.execute(wanted)]

    def fire(
        self,
        due: Schedule,
        *,
        next_at: float,
        make: Callable[[Connection], str | None],
        said: str | None = None,
    ) -> str | None:
        """Fire a schedule that is due, unless somebody else did since it was read.

        Args:
            due: as it was read.
            next_at: when it is due after that.
            make: makes the training or job in the transaction and returns its id, or makes none.
            said: why it makes none.

        Returns:
            What ``make`` returned; ``None`` too where it was not called.
        """
        mine = (
            update(schedules)
            .where(schedules.c.name == due.name, schedules.c.next_at == due.next_at)
            .where(schedules.c.last_at.is_not_distinct_from(due.last_at))  # by hand, it is not due
            .where(schedules.c.paused.is_(False))
        )
        with self._database.write() as connection:
            taken = connection.execute(
                mine.values(next_at=next_at, last_at=epoch_now(), last_said=said)
            )
            if taken.rowcount != 1:
                return None
            made = make(connection)
            if made is not None:
                connection.execute(
                    update(schedules).where(schedules.c.name == due.name).values(last_id=made)
                )
        return made

    def set_paused(self, name: str, paused: bool, *, next_at: float) -> None:
        """Stop a schedule, or let it be due again from a time on."""
        with self._database.write() as connection:
            connection.execute(
                update(schedules)
                .where(schedules.c.name == name)
                .values(paused=paused, next_at=next_at)
            )

    def note(self, last_id: str, said: str) -> None:
        """Write what became of what a schedule made last."""
        with self._database.write() as connection:
            connection.execute(
                update(schedules).where(schedules.c.last_id == last_id).values(last_said=said)
            )

    def remove(self, name: str) -> None:
        """Remove a schedule; what it made stays."""
        with self._database.write() as connection:
            connection.execute(delete(schedules).where(schedules.c.name == name))


def _schedule(row: Row[tuple[Any, ...]]) -> Schedule:
    return Schedule(**{**row._mapping, "kind": ScheduleKind(row.kind)})
