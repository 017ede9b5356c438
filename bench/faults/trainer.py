"""A training that loses its process, its lane and its worker, and one that nothing disturbs."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import psutil
from sqlalchemy import select

from bench.faults.cluster import DONE_S, READY_S, Cluster, Servers
from bench.faults.counting import Proof
from bench.faults.field import leased
from bench.faults.programs import Worker, until
from tagmill.store import Training
from tagmill.store.schema import trainings
from tagmill.training import TrainingState

KILLED_AT = ("features", "head", "probe")
"""Stages: of the trainer's process, of its lane, of its worker."""

_TRAINER = ["-m", "tagmill_worker", "train"]


def killed(servers: Servers, *, lease_s: float) -> Proof:
    """Kill a trainer three times in one training by the queue, and compare what it comes to.

    Args:
        servers: for the rest.
        lease_s: of its claims, which each kill costs.

    Raises:
        RuntimeError: if its metrics are not those of an undisturbed one, or it made two versions.
    """
    dataset = servers.field.photos[0].parent.parent / "groups"
    models = shutil.copytree(servers.field.models, servers.field.work / "trainer-models")
    with servers.cluster(TAGMILL_MODELS=str(models), **leased(lease_s)) as cluster:
        cluster.scheduler()
        undisturbed = _ended(cluster, _asked(cluster, dataset, "undisturbed"), "first")
        training = _asked(cluster, dataset, "killed")
        worker = _worker(cluster, "second")
        recovered_s = []
        for attempt, (stage, kill) in enumerate(
            zip(KILLED_AT, (_kill_trainer, _kill_lane, Worker.kill), strict=True), 2
        ):
            _await_stage(cluster, training, stage)
            kill(worker)
            began = time.monotonic()
            if not worker.is_running:
                worker = _worker(cluster, "second")
            _await_claim(cluster, training, attempt)
            recovered_s.append(time.monotonic() - began)
        found = _await_end(cluster, training)
        said = cluster.command("models", "list").stdout
    if found.result["metrics"] != undisturbed.result["metrics"]:
        raise RuntimeError(f"{found.result['metrics']}, undisturbed {undisturbed.result}")
    if "killed@1" not in said or "killed@2" in said:
        raise RuntimeError(f"not one version, but {said}")
    return Proof(
        counted=(),
        recovered_s=max(recovered_s),
        detail=f"killed at {', '.join(KILLED_AT)}; the same metrics as undisturbed, one version: "
        f"{found.said}",
    )


def _asked(cluster: Cluster, dataset: Path, name: str) -> str:
    done = cluster.command("train", dataset, "--name", name, "--enqueue")
    if done.returncode != 0:
        raise RuntimeError(f"train ended with {done.returncode}: {done.stderr}")
    return done.stdout.strip()


def _ended(cluster: Cluster, training: str, state: str) -> Training:
    """Train to the end with a worker of its own."""
    worker = _worker(cluster, state)
    found = _await_end(cluster, training)
    worker.stop()
    return found


def _worker(cluster: Cluster, state: str) -> Worker:
    """A worker that trains, with a state folder that only those of that name share."""
    words = ["worker", "--queues", "train", "--gpus", "none"]
    words += ["--root", str(cluster.field.photos[0].parent.parent)]
    return cluster.start_worker(words, TAGMILL_STATE_DIR=str(cluster.home / state))


def _trainer(worker: Worker) -> psutil.Process | None:
    for process in psutil.Process(worker.pid).children(recursive=True):
        try:
            if process.cmdline()[1:4] == _TRAINER:
                return process
        except psutil.Error:
            continue
    return None


def _kill_trainer(worker: Worker) -> None:
    until(lambda: _trainer(worker), within_s=READY_S, what="a trainer").kill()


def _kill_lane(worker: Worker) -> None:
    until(lambda: _trainer(worker), within_s=READY_S, what="a trainer").parent().kill()


def _await_stage(cluster: Cluster, training: str, stage: str) -> None:
    def is_there() -> bool:
        found = cluster.store.trainings.get(training)
        if found.state.is_finished:
            raise RuntimeError(f"it has ended before it could be killed: {found.said}")
        return found.state is TrainingState.RUNNING and found.stage == stage

    until(is_there, within_s=DONE_S, what=f"training {training} is at {stage}")


def _await_claim(cluster: Cluster, training: str, attempt: int) -> None:
    """Wait until it is claimed for that time: a trainer whose lane is gone hands on, unlost."""
    wanted = select(trainings.c.attempt).where(trainings.c.id == training)

    def is_claimed() -> bool:
        with cluster.store.database.read() as connection:
            return bool(connection.scalar(wanted) >= attempt)

    until(is_claimed, within_s=DONE_S, what=f"training {training} goes on")


def _await_end(cluster: Cluster, training: str) -> Training:
    def ended() -> Training | None:
        found = cluster.store.trainings.get(training)
        return found if found.state.is_finished else None

    found = until(ended, within_s=DONE_S, what=f"training {training} has ended")
    if found is None or found.state is not TrainingState.DONE:
        raise RuntimeError(f"training {training}: {found}")
    return found
