"""Aliases: which version of a model is meant by a name that moves, and which one was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, select, update

from tagmill.errors import UsageError
from tagmill.store.database import Database
from tagmill.store.outcomes import insert_for
from tagmill.store.schema import alias_moves, aliases, epoch_now
from tagmill.training import CHAMPION, check_model_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """One move of an alias.

    Attributes:
        before: the version that it left, ``None`` at its first move.
        why: ``by hand``, ``rollback``, or the id of a training.
        undone: a rollback took it back.
        moved_at: seconds since the epoch.
    """

    version: int
    before: int | None
    why: str
    undone: bool
    moved_at: float


class Aliases:
    """The aliases of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def version(self, name: str, alias: str = CHAMPION) -> int | None:
        """The version that an alias means, ``None`` where it is not set."""
        with self._database.read() as connection:
            return read_alias(connection, name, alias)

    def all(self) -> dict[tuple[str, str], int]:
        """Every alias, as ``{(name, alias): version}``."""
        with self._database.read() as connection:
            rows = connection.execute(select(aliases.c.name, aliases.c.alias, aliases.c.version))
            return {(row.name, row.alias): row.version for row in rows}

    def move(self, name: str, version: int, *, alias: str = CHAMPION, why: str) -> int | None:
        """Let an alias mean a version from now on.

        Returns:
            The version that it meant before.
        """
        check_model_name(name)
        with self._database.write() as connection:
            before = lock_alias(connection, name, alias)
            move_alias(connection, name, alias, before=before, version=version, why=why)
        return before

    def rollback(
        self,
        name: str,
        *,
        alias: str = CHAMPION,
        check: Callable[[int], None] = lambda _: None,
    ) -> tuple[int, int]:
        """Take the newest move back that was not taken back yet.

        Args:
            name: of the model.
            alias: of its.
            check: told the version that it would mean; raises where it must not.

        Returns:
            The version that the alias left, and the one that it means now.

        Raises:
            UsageError: if it has no version to go back to.
        """
        mine = and_(alias_moves.c.name == name, alias_moves.c.alias == alias)
        newest = (
            select(alias_moves.c.n, alias_moves.c.before)
            .where(mine, alias_moves.c.undone.is_(False))
            .order_by(alias_moves.c.n.desc())
            .limit(1)
        )
        with self._database.write() as connection:
            left = lock_alias(connection, name, alias)
            move = connection.execute(newest).one_or_none()
            if left is None or move is None or move.before is None:
                raise UsageError(f"{name}@{alias} has no earlier version to go back to")
            check(move.before)
            connection.execute(
                update(alias_moves).where(mine, alias_moves.c.n == move.n).values(undone=True)
            )
            move_alias(
                connection,
                name,
                alias,
                before=left,
                version=move.before,
                why="rollback",
                undone=True,
            )
        return left, move.before

    def history(self, name: str, alias: str = CHAMPION) -> Sequence[Move]:
        """The moves of an alias, oldest first."""
        wanted = (
            select(*(alias_moves.c[column] for column in Move.__slots__))
            .where(alias_moves.c.name == name, alias_moves.c.alias == alias)
            .order_by(alias_moves.c.n)
        )
        with self._database.read() as connection:
            return [Move(**row._mapping) for row in connection.execute(wanted)]


def read_alias(connection: Connection, name: str, alias: str = CHAMPION) -> int | None:
    """The version that an alias means, read in a transaction."""
    wanted = select(aliases.c.version).where(aliases.c.name == name, aliases.c.alias == alias)
    found: int | None = connection.scalar(wanted)
    return found or None


def lock_alias(connection: Connection, name: str, alias: str = CHAMPION) -> int | None:
    """Keep an alias from being moved by others until the transaction ends; what it means."""
    insert, _ = insert_for(connection, aliases, ())
    # Version 0 is no version; nobody but this transaction sees it.
    connection.execute(
        insert.values(name=name, alias=alias, version=0, moves=0).on_conflict_do_nothing()
    )
    wanted = select(aliases.c.version).where(aliases.c.name == name, aliases.c.alias == alias)
    return connection.execute(wanted.with_for_update()).scalar_one() or None


def move_alias(
    connection: Connection,
    name: str,
    alias: str = CHAMPION,
    *,
    before: int | None,
    version: int,
    why: str,
    undone: bool = False,
) -> None:
    """Move an alias that this transaction has locked, and note it."""
    n = connection.execute(
        update(aliases)
        .where(aliases.c.name == name, aliases.c.alias == alias)
        .values(version=version, moves=aliases.c.moves + 1)
        .returning(aliases.c.moves)
    ).scalar_one()
    if before == version:
        return
    connection.execute(
        alias_moves.insert().values(
            name=name,
            alias=alias,
            n=n,
            version=version,
            before=before,
            why=why,
            undone=undone,
            moved_at=epoch_now(),
        )
    )
