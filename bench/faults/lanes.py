"""Lanes and workers that are killed, asked to end, or stopped for a while."""

from __future__ import annotations

import random
import signal
import statistics
import time

from bench.faults.cluster import Cluster
from bench.faults.counting import Proof
from bench.faults.field import leased
from bench.faults.programs import Worker, until
from tagmill.store import Job

EVERY_S = 1.0
IDLE_S = 90.0


def killed_lanes(cluster: Cluster, *, kills: int, copies: int = 0) -> Proof:
    """SIGKILL of a random lane that is ready, every second.

    Recovered is a lane when one of its name says again that it is ready; the longest counts.
    """
    worker = cluster.worker()
    job = cluster.enqueue(cluster.field.folder(copies), "--again")
    cluster.await_busy(job)
    idle_s, last_at = _kill_every_second(worker, kills)
    counted = cluster.count(job, items=copies * len(cluster.field.photos) or None)
    worker.stop()
    losses = worker.said().count("lane lost ")
    was_over = (cluster.store.jobs.get(job.id).finished_at or 0.0) < last_at
    if was_over or not losses:
        raise RuntimeError(f"{losses} lanes were lost at work, the job was over: {was_over}")
    return Proof(
        counted=(counted,),
        recovered_s=max(idle_s),
        detail=f"{kills} lanes killed, {losses} of them with a chunk in hand; ready again after "
        f"{statistics.median(idle_s):.1f} s in the median",
    )


def _kill_every_second(worker: Worker, kills: int) -> tuple[list[float], float]:
    """For each kill the seconds until a lane of that name was ready again; the last one's time."""
    chance = random.Random(20)
    idle_s: list[float] = []
    waited_for: dict[str, tuple[float, int]] = {}
    due, left, last_at = time.monotonic(), kills, 0.0

    def all_are_back() -> bool:
        nonlocal due, left, last_at
        now, ready = time.monotonic(), worker.ready()
        for name, (killed_at, before) in list(waited_for.items()):
            if ready[name] > before:
                idle_s.append(now - killed_at)
                del waited_for[name]
        lanes = sorted(worker.lanes().items())
        if left and now >= due and lanes:
            name, lane = chance.choice(lanes)
            waited_for[name] = (now, ready[name])
            lane.kill()
            last_at = time.time()
            due, left = now + EVERY_S, left - 1
        return not left and not waited_for

    until(all_are_back, within_s=kills * EVERY_S + IDLE_S, what="every lane is ready again")
    return idle_s, last_at


def killed_worker(cluster: Cluster) -> Proof:
    """SIGKILL of a worker with its lanes, and a new one started at once."""
    worker = cluster.worker()
    job = cluster.enqueue()
    cluster.await_busy(job)
    worker.kill()
    broken = cluster.in_hand(job)
    began = time.monotonic()
    new = cluster.worker()
    started_s = time.monotonic() - began
    recovered_s = started_s + cluster.recovery_s(job, broken)
    counted = cluster.count(job)
    new.stop()
    return Proof(
        counted=(counted,),
        recovered_s=recovered_s,
        detail=f"{len(broken)} chunks in hand; the new lanes were ready after {started_s:.1f} s",
    )


def asked_to_end(cluster: Cluster) -> Proof:
    """SIGTERM to a worker at work, then a new one.

    Raises:
        RuntimeError: if it does not end in good order.
    """
    worker = cluster.worker()
    job = cluster.enqueue()
    cluster.await_busy(job)
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    code = worker.wait()
    ended_s = time.monotonic() - began
    left = cluster.in_hand(job)
    if code != 0 or left:
        raise RuntimeError(f"exit code {code}, {len(left)} chunks in hand: {worker.said()}")
    new = cluster.worker()
    counted = cluster.count(job)
    new.stop()
    attempts = [row.attempt for row in cluster.chunks(job)]
    if max(attempts) > 1:
        raise RuntimeError(f"chunks were given out again: {attempts}")
    return Proof(
        counted=(counted,),
        recovered_s=ended_s,
        detail=f"exit code 0, and each of {len(attempts)} chunks was given out once",
    )


def paused_lane(cluster: Cluster, *, lease_s: float) -> Proof:
    """SIGSTOP of a lane past its lease, and SIGCONT when another has done its chunk.

    Its worker is stopped too, as on a machine that sleeps: it would end a lane that hangs.

    Raises:
        RuntimeError: if its late commit is not refused.
    """
    worker, other = cluster.worker(**leased(lease_s)), cluster.worker(**leased(lease_s))
    job = cluster.enqueue(TAGMILL_CHUNK_ITEMS="100")  # most of its time a lane labels
    cluster.await_busy(job)
    seq, name = _stop_at_work(cluster, job, worker)
    until(
        lambda: cluster.chunks(job)[seq].state == "done",
        within_s=IDLE_S,
        what="its chunk is done by another",
    )
    row = cluster.chunks(job)[seq]
    began = time.monotonic()
    worker.lanes()[name].resume()
    worker.send(signal.SIGCONT)
    until(lambda: "dropped: " in worker.said(), within_s=IDLE_S, what="its commit is refused")
    refused_s = time.monotonic() - began
    counted = cluster.count(job)
    worker.stop()
    other.stop()
    if row.attempt != 2 or row.lane == name or cluster.chunks(job)[seq] != row:
        raise RuntimeError(f"chunk {seq} of {name}: {row}, then {cluster.chunks(job)[seq]}")
    return Proof(
        counted=(counted,),
        recovered_s=refused_s,
        detail=f"chunk {seq} was given to {row.lane} after {lease_s:g} s of lease",
    )


def _stop_at_work(cluster: Cluster, job: Job, worker: Worker) -> tuple[int, str]:
    """Stop a lane that has a chunk in hand, and no transaction open: the chunk and the lane."""

    def stopped() -> tuple[int, str] | None:
        lanes = worker.lanes()
        worker.send(signal.SIGSTOP)
        for seq, name in cluster.in_hand(job).items():
            if name not in lanes:
                continue
            lanes[name].suspend()
            if cluster.in_hand(job).get(seq) == name and not cluster.open_transactions():
                return seq, name
            lanes[name].resume()
        worker.send(signal.SIGCONT)
        return None

    return until(stopped, within_s=IDLE_S, what="a lane with a chunk in hand")
