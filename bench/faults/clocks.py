"""Machines whose clocks disagree."""

from __future__ import annotations

from collections import Counter

from bench.faults.cluster import Servers
from bench.faults.counting import Proof
from bench.faults.customize import path_of

OFF_S = 600
"""Seconds: ten minutes, longer than any lease."""


def off(servers: Servers, *, scheduler_s: int, worker_s: int) -> Proof:
    """The clocks of a scheduler and of one worker are off, another worker's is right.

    No lease may be taken away early; and ticks must go on, for messages are lost on the way.

    Args:
        servers: for the rest.
        scheduler_s: seconds by which the scheduler's clock is off.
        worker_s: those of the worker.

    Raises:
        RuntimeError: if a chunk was given out twice.
    """
    with servers.cluster() as cluster:
        cluster.scheduler(**_shifted(scheduler_s))
        cluster.worker(lanes=1, **_shifted(worker_s))
        cluster.worker(lanes=1)
        job = cluster.enqueue()
        cluster.await_busy(job)
        broken = cluster.in_hand(job)
        with servers.valkey.client() as client:
            client.flushall()
        recovered_s = cluster.recovery_s(job, broken)
        counted = cluster.count(job)
        rows = cluster.chunks(job)
        early = [row for row in rows if row.losses or row.attempt != 1]
        if early:
            raise RuntimeError(f"{len(early)} of {len(rows)} chunks were given out twice: {early}")
        shares = sorted(Counter(row.lane for row in rows).values())
        return Proof(
            counted=(counted,),
            recovered_s=recovered_s,
            detail=f"each of {len(rows)} chunks was given out once, {shares[-1]} of them to the "
            "busier lane; messages that were lost meanwhile were sent again",
        )


def _shifted(seconds: int) -> dict[str, str]:
    return {"PYTHONPATH": path_of("clock"), "FAULT_CLOCK_S": str(seconds)}
