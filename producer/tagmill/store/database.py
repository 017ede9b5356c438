"""One database, SQLite or PostgreSQL: transactions, schema version, and errors made ours."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tagmill.errors import StoreAway, StoreError, StoreFull
from tagmill.store.schema import metadata

HEAD = "0005"
"""The schema revision that this release works with; the newest file in ``migrations/versions``."""

_MIGRATION_LOCK = 0x7461676D  # ours among the advisory locks of a PostgreSQL: "tagm"
_READING = {"tagmill_reading": True}
_REFUSED = ("password", "does not exist", "pg_hba.conf", "permission denied", "certificate")
_FULL = ("database or disk is full", "No space left on device", "could not extend file")


class Database:
    """A database by its SQLAlchemy URL. Nothing is opened before the first use.

    Args:
        url: ``sqlite:///path`` or ``postgresql+psycopg://…``.
        busy_s: for how long a writer waits for another one's lock on SQLite.

    Raises:
        StoreError: if the URL names no database that this installation can talk to.
    """

    def __init__(self, url: str, *, busy_s: float = 30.0) -> None:
        self._url = url
        try:
            self.engine = _engine(url, busy_s)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise StoreError(f"the store's URL cannot be used: {error}") from error
        except ValueError as error:  # whose text may quote a password
            raise StoreError("the store's URL cannot be read: is its port a number?") from error

    @property
    def name(self) -> str:
        """The address without its password, for people."""
        if self.engine.dialect.name == "sqlite":
            return self.engine.url.database or "in memory"
        return self.engine.url.set(query={}).render_as_string(hide_password=True)

    @property
    def is_shared(self) -> bool:
        """True where other machines may use it, and it may be away for a while."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries: on SQLite it never waits for writers."""
        with (
            self._translated(),
            self.engine.connect().execution_options(**_READING) as connection,
        ):
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: committed at the end, rolled back by an exception."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    def prepare(self, *, migrate_shared: bool = False) -> None:
        """Create the schema in an empty database, or bring an older one up to date.

        A PostgreSQL may be in use by workers of the older release, so it is brought up to date
        only where somebody said so.

        Args:
            migrate_shared: bring an older PostgreSQL up to date too.

        Raises:
            StoreError: if the database was written by a newer release, is a PostgreSQL with an
                older schema, or cannot be reached.
        """
        revision = self.revision()
        if revision == HEAD:
            return
        if revision is not None and revision < HEAD and self.is_shared and not migrate_shared:
            raise StoreError(
                f"the store {self.name} has schema {revision}, this release works with {HEAD}: "
                "stop the workers of the older release and run 'tagmill doctor --migrate'"
            )
        if revision is not None and revision > HEAD:
            raise StoreError(
                f"the store {self.name} has schema {revision}, this release works with {HEAD}: "
                "use the newer tagmill that wrote it, or another state folder"
            )
        with self.write() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's write lock is held already
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            if not inspect(connection).has_table("alembic_version"):
                create_newest(connection)
            else:
                migrate(connection)

    def revision(self) -> str | None:
        """The schema revision of the database, ``None`` for an empty one."""
        with self.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return found

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _may_pass(self, error: DBAPIError, reason: str) -> bool:
        """True where another try may succeed without anybody's doing."""
        if not self.is_shared:
            return "locked" in reason
        if any(sign in reason for sign in _REFUSED):
            return False
        away = isinstance(error, OperationalError | InterfaceError)
        return away or error.connection_invalidated or "read-only transaction" in reason

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            if any(sign in reason for sign in _FULL):
                raise StoreFull(f"no room left for the store {self.name}: {reason}") from error
            kind = StoreAway if self._may_pass(error, reason) else StoreError
            raise kind(f"the store {self.name} refused: {reason}") from error
        except PoolTimeout as error:
            raise StoreAway(f"the store {self.name}: {error}") from error
        except SQLAlchemyError as error:
            raise StoreError(f"the store {self.name}: {error}") from error


def create_newest(connection: Connection) -> None:
    """Make today's tables in an empty database: what the migrations would come to, sooner."""
    metadata.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def migrate(connection: Connection) -> None:
    """Bring a database to today's schema, step by step."""
    from alembic import command  # heavy, and needed once in a release
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


# A connection that died unnoticed is found out by its next use, or within half a minute.
_POSTGRES: dict[str, Any] = {
    "pool_size": 2,
    "max_overflow": 2,
    "pool_pre_ping": True,
    "connect_args": {"connect_timeout": 10, "tcp_user_timeout": 30_000},
}


_engines: WeakSet[Engine] = WeakSet()


def _forget_connections() -> None:
    """A forked process must not speak on its parent's connections."""
    for engine in _engines:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


def _engine(url: str, busy_s: float) -> Engine:
    parsed = make_url(url)
    options = _POSTGRES if parsed.get_backend_name() == "postgresql" else {}
    engine = create_engine(parsed, **options)
    _engines.add(engine)
    if options:

        @event.listens_for(engine, "connect")
        def _on_postgres_connect(connection: Any, _: Any) -> None:
            # A lane that is stopped in a transaction holds what others wait for.
            connection.execute("SET idle_in_transaction_session_timeout = '30s'")
            connection.commit()

    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _on_connect(connection: sqlite3.Connection, _: Any) -> None:
            connection.isolation_level = None  # we begin transactions ourselves, below
            connection.execute(f"PRAGMA busy_timeout = {round(busy_s * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL never corrupts in WAL mode; a power cut may undo the last commits whole,
            # outcomes together with their chunk, and the chunk is then done again.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            # A reader that turns writer half-way may be refused at once; one that says so first
            # waits its turn.
            reading = connection.get_execution_options().get("tagmill_reading")
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
