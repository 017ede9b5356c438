"""From a promotion to the first image that the new version labelled, with lanes at work."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from sqlalchemy import func, select

from bench.cluster import DONE_S, await_job, await_lanes, worker
from bench.ground import VERSION, Ground
from bench.services import Services, services
from bench.table import Row
from tagmill.store import Job, Store
from tagmill.store.schema import chunks, outcomes

TURNS = 5
MOST_S = 10.0


def rows(ground: Ground) -> Iterator[Row]:
    """Promote in the middle of a job, and ask for another one with what the name means then."""
    twins = ground.work / "twins"
    for number in (1, 2):  # alike but for their numbers
        shutil.copytree(ground.registry.path(VERSION), twins / "twin" / str(number))
    with services(ground.work / "promotion") as servers:
        took = [_turn(ground, servers, twins, f"promotion{turn}") for turn in range(TURNS)]
    median = statistics.median(took)
    yield Row(
        what="`tagmill models promote` and a job by it, to the first commit of the new version, "
        f"while {ground.lanes} lanes label 1,000 photographs by the old one; no lane is restarted, "
        "both jobs end with an outcome for each image, by their own version",
        figure=f"{median:.1f} s",
        wanted=f"< {MOST_S:.0f} s",
        holds=max(took) < MOST_S,
        detail=f"{min(took):.1f} to {max(took):.1f} s in {TURNS} turns",
    )


def _turn(ground: Ground, servers: Services, twins: Path, state: str) -> float:
    """Seconds by the store's clock."""
    with servers.database() as url, contextlib.closing(Store(url)) as store:
        environment = {
            **ground.environment(state, models=twins),
            "TAGMILL_BROKER_URL": servers.broker_url,
            "TAGMILL_STORE_URL": url,
            "TAGMILL_NAMESPACE": state,
            "TMPDIR": str(ground.work),  # lane files of our own
        }

        def command(*words: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "tagmill", *words],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        store.prepare()
        command("models", "promote", "twin@1")
        words = ["worker", "--gpus", "none", "--lanes", str(ground.lanes), "--model", "twin"]
        words += ["--root", str(ground.work)]
        with worker([sys.executable, "-m", "tagmill", *words], environment) as process:
            await_lanes(store, ground.lanes, [process])
            lanes = _pids(store)
            command("enqueue", str(ground.thousand), "--model", "twin")
            old = store.jobs.recent(1)[0]
            _await_outcome(store, old)
            promoted_at = store.jobs.now()
            command("models", "promote", "twin@2")
            command("enqueue", str(ground.thousand), "--model", "twin", "--priority", "high")
            new = store.jobs.recent(1)[0]
            first = _await_outcome(store, new)
            for job, model in ((old, "twin@1"), (new, "twin@2")):
                await_job(store, job.id, [process], within_s=2 * DONE_S)
                _count(store, job.id, model)
            if _pids(store) != lanes:
                raise RuntimeError("a lane was restarted")
    return first - promoted_at


def _pids(store: Store) -> set[int]:
    return {lane.pid for lane in store.lanes.alive(within_s=DONE_S)}


def _await_outcome(store: Store, job: Job) -> float:
    """When the first chunk of a job was committed."""
    first = select(func.min(chunks.c.committed_at)).where(chunks.c.job_id == job.id)
    deadline = time.monotonic() + DONE_S
    while time.monotonic() < deadline:
        with store.database.read() as connection:
            at = connection.scalar(first)
        if at is not None:
            return float(at)
        time.sleep(0.05)
    raise RuntimeError(f"job {job.id} labelled nothing in time")


def _count(store: Store, job_id: str, model: str) -> None:
    """One outcome for each image, by that version."""
    mine = outcomes.c.job_id == job_id
    wanted = select(func.count(), func.count(sqlalchemy.distinct(outcomes.c.uri))).where(mine)
    job = store.jobs.get(job_id)
    with store.database.read() as connection:
        counted, different = connection.execute(wanted).one()
    if job.model != model or not job.listed == job.ok == counted == different:
        raise RuntimeError(f"{counted} outcomes for {job.listed} images by {job.model}")
