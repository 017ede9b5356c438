"""Reading the results of a very large job: how fast, and in how much memory."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
from sqlalchemy import update

from bench.ground import Ground
from bench.table import Row
from tagmill.contract import JobState, Label, Outcome, Status
from tagmill.store import Store
from tagmill.store.outcomes import upsert
from tagmill.store.schema import epoch_now, jobs

FEW, MANY = 10_000, 1_000_000
AT_ONCE = 10_000
MOST_GROWTH = 10 << 20
LONGEST_S = 300


def rows(ground: Ground) -> Iterator[Row]:
    """Read a small job and a very large one; memory may not grow with the rows."""
    few, _ = _read(ground, FEW)
    many, seconds = _read(ground, MANY)
    growth = many - few
    yield Row(
        what=f"`tagmill results` as JSONL of a job of {MANY:,} items: peak memory beyond that for "
        f"a job of {FEW:,}",
        figure=f"{max(0, growth) / (1 << 20):,.1f} MiB",
        wanted=f"< {MOST_GROWTH >> 20} MiB",
        holds=growth < MOST_GROWTH,
        detail=f"{many / (1 << 20):,.0f} against {few / (1 << 20):,.0f} MiB; "
        f"{MANY / seconds:,.0f} rows/s from SQLite, start of the command included",
    )


def _read(ground: Ground, items: int) -> tuple[int, float]:
    """Peak memory and seconds of the command.

    Raises:
        RuntimeError: if it does not write a row for each item.
    """
    state = f"results{items}"
    folder = ground.work / state
    folder.mkdir()
    job_id = _fill(f"sqlite:///{folder / 'tagmill.db'}", items)
    command = [sys.executable, "-m", "tagmill", "results", job_id, "--format", "jsonl"]
    began = time.perf_counter()
    peak = lines = 0
    with subprocess.Popen(
        command,
        env=ground.environment(state, models=ground.work / "none"),
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        watched = psutil.Process(process.pid)
        while data := process.stdout.read(1 << 22):
            lines += data.count(b"\n")
            with contextlib.suppress(psutil.NoSuchProcess):
                peak = max(peak, watched.memory_info().rss)
            if time.perf_counter() - began > LONGEST_S:
                process.kill()
    seconds = time.perf_counter() - began
    if process.returncode != 0 or lines != items:
        raise RuntimeError(f"{command} wrote {lines:,} rows and ended with {process.returncode}")
    return peak, seconds


def _fill(url: str, items: int) -> str:
    """A job that is done, with its outcomes: its id."""
    labels = tuple(Label(id=f"n{n:08}", name=f"class_{n}", score=0.5 / (n + 1)) for n in range(5))
    with contextlib.closing(Store(url)) as store:
        store.prepare()
        job = store.jobs.create(source="file:///srv/photographs", model="mobilenet_v2@1", top_k=5)
        for start in range(0, items, AT_ONCE):
            found = [
                Outcome(
                    n=n,
                    uri=f"file:///srv/photographs/{n // 1000:06}/{n:09}.jpg",
                    version="110380-1764011111000000000",
                    status=Status.OK,
                    width=500,
                    height=375,
                    labels=labels,
                )
                for n in range(start, start + AT_ONCE)
            ]
            with store.database.write() as connection:
                upsert(connection, job.id, found)
        with store.database.write() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job.id)
                .values(state=JobState.DONE, listed=items, ok=items, finished_at=epoch_now())
            )
    return job.id
