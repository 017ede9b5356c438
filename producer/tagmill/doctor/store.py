"""The store: reachable, of this release's schema, writable, and on a disk that will do."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from tagmill.doctor.clocks import read_clock
from tagmill.doctor.findings import ASK_S, Look
from tagmill.errors import StoreError
from tagmill.settings import Settings
from tagmill.state_folder import LEAST_FREE_BYTES
from tagmill.store import Store
from tagmill.store.database import HEAD
from tagmill.store.schema import metadata

WHAT = "store"

LEAST_POSTGRESQL = 12
"""Older ones lack what migrations use, and have had no mending for years."""

_FAR = re.compile(r"nfs\d?|cifs|smb\w*|9p|ceph|glusterfs|lustre|afs|fuse\.(?!fuse-overlayfs).*")
"""Kinds of file systems whose files machines share, or that come from another program."""

# What PostgreSQL and its driver say, and what that means. The first that fits is said.
_REASONS = (
    (
        r"could not translate host name|failed to resolve host|not known|getaddrinfo",
        "nobody knows its host's name",
        "look at the host in TAGMILL_STORE_URL, and at this machine's DNS",
    ),
    (
        r"Connection refused|No such file or directory",
        "nothing listens there",
        "start the server, or look at host and port in TAGMILL_STORE_URL",
    ),
    (
        r"password|authentication failed",
        "it refuses this password",
        "set it in TAGMILL_STORE_URL, with '/', '@' and ':' in it as %2F, %40 and %3A",
    ),
    (
        r'role ".*" does not exist',
        "it has no such user",
        "createuser, or look at the user in TAGMILL_STORE_URL",
    ),
    (
        r'database "(?P<name>.*)" does not exist',
        "it has no such database",
        "createdb {name}, or look at the end of TAGMILL_STORE_URL",
    ),
    (
        r"pg_hba\.conf",
        "it takes no connection of this user from this machine",
        "allow it in the server's pg_hba.conf: SELECT pg_reload_conf()",
    ),
    (
        r"permission denied for database",
        "this user may not use that database",
        "GRANT CONNECT, CREATE ON DATABASE to the user of TAGMILL_STORE_URL",
    ),
    (
        r"starting up|shutting down|recovery",
        "it is starting or stopping",
        "wait until it is up: tagmill doctor",
    ),
    (
        r"too many clients|connection slots",
        "it takes no more connections",
        "raise its max_connections, or put PgBouncer in session mode before it",
    ),
    (
        r"certificate|SSL",
        "no TLS connection that both trust comes about",
        "set sslmode and sslrootcert in TAGMILL_STORE_URL",
    ),
    (
        r"time(d )?\s?out|timeout",
        f"it gives no answer within {ASK_S} s",
        "look whether it is stopped or overloaded, and at firewalls",
    ),
)


def look_at_store(settings: Settings, *, now: Callable[[], float]) -> Look:
    """Look at the store itself; what is in it is for `look_at_ledger`."""
    look = Look()
    try:
        store = Store(settings.store_address)
    except StoreError as error:
        look.ill(WHAT, str(error), "set TAGMILL_STORE_URL, as postgresql://user@host/database")
        return look
    if not store.database.is_shared:
        _file(look, Path(store.database.name))
    else:
        _server(look, settings.store_address, store.database.name)
    if look.is_well:
        _schema(look, store)
    if look.is_well and store.database.is_shared:
        look.clock = read_clock(
            store.jobs.now,
            now,
            of="the store's clock",
            spoils="leases go by the store's alone and hold; times in results are of both",
        )
    store.close()
    return look


def _file(look: Look, path: Path) -> None:
    kind = file_system_of(path)
    if _FAR.fullmatch(kind):
        look.ill(
            WHAT,
            f"{path} is on a network file system ({kind}), where SQLite does not work",
            "put the state folder on a disk of this machine (--state-dir), or take PostgreSQL",
        )
    if not path.exists():
        return
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True) or not os.access(
        path.parent, os.W_OK, effective_ids=True
    ):
        look.ill(
            WHAT,
            f"{path} cannot be written by this user",
            f"let user {os.geteuid()} write to it and to {path.parent}",
        )
    free = shutil.disk_usage(path.parent).free
    if free < LEAST_FREE_BYTES:
        look.ill(WHAT, f"{free:,} bytes are free beside {path}", "make room there")


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system that a path is on, as Linux names it; empty elsewhere."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        _, point, found, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")  # a space in it is \040
        if Path(real).is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    return kind


def _server(look: Look, url: str, name: str) -> None:
    engine = create_engine(
        make_url(url),
        connect_args={"connect_timeout": ASK_S, "options": f"-c statement_timeout={ASK_S}s"},
    )
    try:
        with engine.connect() as connection:
            _rights(look, connection, name)
    except SQLAlchemyError as error:
        why = " ".join(str(getattr(error, "orig", error)).split())
        for pattern, said, mend in _REASONS:
            if found := re.search(pattern, why):
                look.ill(WHAT, f"{name}: {said}", mend.format(**found.groupdict()))
                return
        look.ill(WHAT, f"{name}: {why}", "look at TAGMILL_STORE_URL, and at the server's log")
    finally:
        engine.dispose()


def _rights(look: Look, connection: Connection, name: str) -> None:
    version = str(connection.scalar(text("SHOW server_version"))).split()[0]
    if int(version.split(".")[0]) < LEAST_POSTGRESQL:
        look.ill(
            WHAT,
            f"{name}: PostgreSQL {version} is too old, the least is {LEAST_POSTGRESQL}",
            "pg_upgrade it, or take a newer one",
        )
    if connection.scalar(text("SHOW transaction_read_only")) == "on":
        look.ill(
            WHAT,
            f"{name} is read-only: a standby, or set so",
            "name the primary in TAGMILL_STORE_URL",
        )
        return
    tables = [table for table in metadata.tables if _has(connection, table)]
    closed = [
        table
        for table in tables
        for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
        if not connection.scalar(
            text("SELECT has_table_privilege(:table, :right)"), {"table": table, "right": right}
        )
    ]
    if closed:
        names = ", ".join(dict.fromkeys(closed))
        look.ill(
            WHAT,
            f"{name}: this user may not read and write {names}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {names} to the user of TAGMILL_STORE_URL",
        )
    may_make = text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
    if not tables and not connection.scalar(may_make):
        look.ill(
            WHAT,
            f"{name}: this user may not make tables",
            "GRANT CREATE ON SCHEMA public to the user of TAGMILL_STORE_URL",
        )


def _has(connection: Connection, table: str) -> bool:
    return connection.scalar(text("SELECT to_regclass(:table)"), {"table": table}) is not None


def _schema(look: Look, store: Store) -> None:
    database = store.database
    if not database.is_shared and not Path(database.name).exists():
        look.note(WHAT, "none yet", "a run or tagmill doctor --migrate makes it")
        return
    try:
        revision = database.revision()
    except StoreError as error:
        look.ill(WHAT, str(error), "look whether the file is a store, or take another --state-dir")
        return
    said = f"{database.name}, schema {revision or 'none'}"
    look.is_current = revision == HEAD
    if look.is_current:
        look.well(WHAT, said)
    elif revision is None or revision < HEAD:
        look.note(WHAT, f"{said}, this release works with {HEAD}", "tagmill doctor --migrate")
    else:
        look.ill(
            WHAT,
            f"{said}, this release works with {HEAD}",
            "use the newer tagmill that wrote it",
        )


def migrate(settings: Settings) -> str:
    """Bring the store's schema to the one that this release works with.

    Returns:
        What was done, as a sentence.

    Raises:
        StoreError: if the store is away, or was written by a newer release.
    """
    store = Store(settings.store_address)
    before = store.database.revision()
    store.prepare(migrate_shared=True)
    store.close()
    if before == HEAD:
        return f"the store {store.database.name} has schema {HEAD} already"
    return f"the store {store.database.name} went from schema {before or 'none'} to {HEAD}"
