"""PostgreSQL and Redis against the embedded default, with the same lanes."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy

from bench.ground import Ground
from bench.services import Services, services
from bench.steady import CHUNKS, rate_of, steady_rate
from bench.table import Row
from tagmill.store import LaneState, Store

PAIRS = 10
LEAST = 0.95
READY_S, DONE_S, END_S = 60.0, 120.0, 60.0


def rows(ground: Ground) -> Iterator[Row]:
    """Run both in turns; the median of the ratios counts."""
    ground.run("warm-cluster")
    pairs, broker_s, server_s = [], [], []
    with services(ground.work / "services") as servers:
        for turn in range(PAIRS):
            if turn % 2:  # each is first as often as the other: machines drift
                ground.run(f"alone{turn}")
            cluster, broker, server = _cluster_run(ground, servers, f"cluster{turn}")
            if not turn % 2:
                ground.run(f"alone{turn}")
            pairs.append((cluster, steady_rate(ground, f"alone{turn}")))
            broker_s.append(broker)
            server_s.append(server)
    ratios = [cluster / alone for cluster, alone in pairs]
    ratio = statistics.median(ratios)
    cluster, alone = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    yield Row(
        what=f"`tagmill worker` with {ground.lanes} lanes, PostgreSQL and Valkey on TCP, on 1,000 "
        "photographs, from the first chunk's start to the last commit, against `tagmill run` with "
        "as many",
        figure=f"{ratio:.3f}",
        wanted=f"≥ {LEAST}",
        holds=ratio >= LEAST,
        detail=f"single pairs {min(ratios):.2f} to {max(ratios):.2f}; {cluster:,.0f} against "
        f"{alone:,.0f} images/s, median of {PAIRS} pairs; meanwhile, on the same cores, PostgreSQL "
        f"took {statistics.median(server_s):.2f} s of processor time and Valkey "
        f"{statistics.median(broker_s):.2f} s",
    )


def _cluster_run(ground: Ground, servers: Services, state: str) -> tuple[float, float, float]:
    """Images/s of one job in a database of its own, and the seconds that the servers took."""
    with servers.database() as url, contextlib.closing(Store(url)) as store:
        environment = {
            **ground.environment(state),
            "TAGMILL_BROKER_URL": servers.broker_url,
            "TAGMILL_STORE_URL": url,
            "TAGMILL_NAMESPACE": state,
            "TMPDIR": str(ground.work),  # lane files of our own
        }
        store.prepare()
        words = ["worker", "--gpus", "none", "--lanes", str(ground.lanes)]
        words += ["--root", str(ground.thousand)]
        with worker([sys.executable, "-m", "tagmill", *words], environment) as process:
            await_lanes(store, ground.lanes, [process])
            before = servers.cpu_s()
            subprocess.run(
                [sys.executable, "-m", "tagmill", "enqueue", str(ground.thousand)],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            await_job(store, store.jobs.recent(1)[0].id, [process], within_s=DONE_S)
            broker, server = (
                after - then for after, then in zip(servers.cpu_s(), before, strict=True)
            )
        with store.database.read() as connection:
            rate = rate_of(connection.execute(sqlalchemy.text(CHUNKS)).all())
    return rate, broker, server


@contextmanager
def worker(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a process, ended afterwards with all that it started."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_lanes(store: Store, count: int, workers: list[subprocess.Popen[bytes]]) -> None:
    """Wait until that many lanes are ready for work.

    Raises:
        RuntimeError: if a worker ends, or they take too long.
    """
    deadline = time.monotonic() + READY_S
    while True:
        alive = store.lanes.alive(within_s=READY_S)
        if sum(lane.state is LaneState.IDLE for lane in alive) >= count:
            return
        _look_after(workers, deadline, "its lanes were not ready")
        time.sleep(0.05)


def await_job(
    store: Store, job_id: str, workers: list[subprocess.Popen[bytes]], *, within_s: float
) -> None:
    """Wait until a job has ended.

    Raises:
        RuntimeError: if a worker ends, or it takes too long.
    """
    deadline = time.monotonic() + within_s
    while not store.jobs.get(job_id).state.is_finished:
        _look_after(workers, deadline, f"job {job_id} was not done")
        time.sleep(0.1)


def _look_after(workers: list[subprocess.Popen[bytes]], deadline: float, what: str) -> None:
    for process in workers:
        if process.poll() is not None:
            raise RuntimeError(f"a worker ended with {process.returncode}: {what}")
    if time.monotonic() > deadline:
        raise RuntimeError(f"{what} in time")
