"""A cluster to be broken: a broker, a store, workers, a scheduler, producers, all real."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy

from bench.faults.counting import Counted, count
from bench.faults.field import FEW, Field, clean_environment, leased
from bench.faults.programs import Program, Worker, until
from bench.faults.servers import PostgreSQL, Valkey
from tagmill.store import Job, Store

BUSY = 50
"""Outcomes from which on a job is well on its way."""

DONE_S = 150.0
"""For a job to end: far more than one takes where nothing hangs."""

READY_S = 60.0
TOLD = 4
"""Chunks at the most that two lanes have in hand or in their worker's memory."""

_numbers = itertools.count()


class Cluster:
    """Programs on a broker and a store. All that it started ends with `close`.

    Args:
        field: what it has in common with others.
        broker_url: of the broker.
        store_url: of an empty database.
        environment: more of it, for all of its programs.
    """

    def __init__(
        self,
        field: Field,
        *,
        broker_url: str,
        store_url: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        number = next(_numbers)
        self.field = field
        self.store_url = store_url
        self.home = field.work / f"cluster-{number}"
        self.environment = {
            **clean_environment(self.home, field.models),
            **(leased(field.lease_s) if field.lease_s else {}),
            "TAGMILL_BROKER_URL": broker_url,
            "TAGMILL_STORE_URL": store_url,
            "TAGMILL_NAMESPACE": f"faults-{number}",
            "TAGMILL_CHUNK_ITEMS": "16",  # many chunks, so that every fault meets some
            **(environment or {}),
        }
        self.store = Store(store_url)
        self.programs: list[Program] = []

    def worker(self, *, lanes: int = 2, **environment: str) -> Worker:
        """Start a worker and wait until its lanes are ready."""
        words = ["worker", "--gpus", "none", "--lanes", str(lanes)]
        for root in (self.field.work, self.field.photos[0].parent):
            words += ["--root", str(root)]
        started = self.start_worker(words, **environment)

        def is_ready() -> bool:
            if not started.is_running:
                raise RuntimeError(f"the worker ended: {started.said()}")
            return len(started.lanes()) == lanes

        until(is_ready, within_s=READY_S, what="lanes are ready")
        return started

    def start_worker(self, words: list[str], **environment: str) -> Worker:
        """Start a worker that is told these words."""
        started = Worker(words, self.environment | environment, self._log("worker"))
        self.programs.append(started)
        return started

    def scheduler(self, **environment: str) -> Program:
        """Start a scheduler."""
        words = ["scheduler", "--every", str(self.field.tick_s)]
        started = Program(words, self.environment | environment, self._log("scheduler"))
        self.programs.append(started)
        return started

    def enqueue(self, *words: object, **environment: str) -> Job:
        """Enqueue all photographs, or what is named instead; the job.

        Raises:
            RuntimeError: if that fails.
        """
        done = self.command("enqueue", *(words or (self.field.folder(), "--again")), **environment)
        if done.returncode != 0:
            raise RuntimeError(f"enqueue ended with {done.returncode}: {done.stderr}")
        return self.store.jobs.get(done.stdout.strip())

    def command(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "tagmill", *map(str, words)],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=DONE_S,
            check=False,
        )

    def outcomes(self, job: Job) -> int:
        """Outcomes of a job so far, by its own account."""
        now = self.store.jobs.get(job.id)
        return now.ok + now.failed

    def await_busy(self, job: Job, outcomes: int = BUSY) -> None:
        """Wait until a job is on its way, and not at its end.

        Raises:
            RuntimeError: if it is over: nothing that follows would disturb it.
        """
        until(lambda: self.outcomes(job) >= outcomes, within_s=DONE_S, what="lanes at work")
        if self.store.jobs.get(job.id).state.is_finished:
            raise RuntimeError("the job was over before anything could be broken")

    def await_done(self, job: Job, within_s: float = DONE_S) -> None:
        """Wait until a job has ended."""
        until(
            lambda: self.store.jobs.get(job.id).state.is_finished,
            within_s=within_s,
            what=f"job {job.id} is done",
        )

    def chunks(self, job: Job) -> Sequence[Any]:
        """A job's chunks as the ledger has them, their items left out."""
        wanted = (
            "SELECT seq, state, attempt, losses, lane, committed_at FROM chunks "
            "WHERE job_id = :job ORDER BY seq"
        )
        with self.store.database.read() as connection:
            return connection.execute(sqlalchemy.text(wanted), {"job": job.id}).all()

    def in_hand(self, job: Job) -> dict[int, str]:
        """The lanes that have a chunk of a job in hand, by the chunk's number."""
        return {row.seq: row.lane for row in self.chunks(job) if row.state == "claimed"}

    def open_transactions(self) -> int:
        """Sessions of the PostgreSQL database that hold a transaction open and do nothing in it."""
        wanted = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state LIKE 'idle in transaction%'"
        )
        with self.store.database.read() as connection:
            return int(connection.scalar(sqlalchemy.text(wanted)) or 0)

    def recovery_s(self, job: Job, broken: Mapping[int, str], within_s: float = DONE_S) -> float:
        """Seconds from now until a job goes on.

        That is when every chunk that was in hand when it was broken is done, and some have been
        committed that were not: more than lanes had been told of.

        Args:
            job: that was disturbed.
            broken: what was in hand then; see `in_hand`.
            within_s: for how long to wait.
        """
        began = time.monotonic()
        since = time.time()  # the database is on this machine

        def goes_on() -> bool:
            rows = self.chunks(job)
            done = [row for row in rows if row.state == "done"]
            new = [row for row in done if row.committed_at > since and row.seq not in broken]
            moves = len(new) > TOLD or len(done) == len(rows)
            return moves and broken.keys() <= {row.seq for row in done}

        until(goes_on, within_s=within_s, what=f"job {job.id} goes on")
        return time.monotonic() - began

    def tally(self, job: Job, *, items: int | None = None) -> Counted:
        """Wait for a job's end and count.

        Args:
            job: that was disturbed.
            items: that it has; as many as `Field.items` says where unset.
        """
        self.await_done(job)
        wanted = self.field.items if items is None else items
        return count(self.store, job.id, items=wanted, labels=self.field.labels)

    def count(self, job: Job, *, items: int | None = None) -> Counted:
        """As `tally`; and see whether the next job works."""
        found = self.tally(job, items=items)
        after = self.tally(self.enqueue(self.field.few, "--again"), items=FEW)
        return dataclasses.replace(found, next_is_done=after.is_whole)

    def dropped(self) -> int:
        """How often a lane's finished work was dropped, as another had its chunk."""
        return sum(program.said().count("dropped: ") for program in self.programs)

    def close(self) -> None:
        """End all of its programs."""
        for program in reversed(self.programs):
            program.stop()
        self.store.close()

    def _log(self, name: str) -> Path:
        return self.home / f"{name}-{len(self.programs)}.log"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The broker and the database server of the cases."""

    field: Field
    valkey: Valkey
    postgres: PostgreSQL

    @contextmanager
    def cluster(
        self, *, store_url: str | None = None, broker_url: str | None = None, **environment: str
    ) -> Iterator[Cluster]:
        """A cluster with a PostgreSQL database of its own, or on the servers that are named."""
        made = Cluster(
            self.field,
            broker_url=broker_url or self.valkey.url,
            store_url=store_url or self.postgres.database(),
            environment=environment,
        )
        made.store.prepare()
        with closing(made):
            yield made


@contextmanager
def servers(field: Field) -> Iterator[Servers]:
    """Start a Valkey and a PostgreSQL."""
    folder = field.work / "servers"
    folder.mkdir(mode=0o700)
    valkey = Valkey(folder)
    with closing(PostgreSQL(folder)) as postgres:
        valkey.start()
        try:
            yield Servers(field=field, valkey=valkey, postgres=postgres)
        finally:
            valkey.kill()
