"""Producers that are killed while they list, and messages that come twice and in any order."""

from __future__ import annotations

import random
import signal
from contextlib import closing

from bench.faults.cluster import Cluster, Servers
from bench.faults.counting import Proof
from bench.faults.customize import path_of
from bench.faults.programs import until
from tagmill.broker import Broker
from tagmill.settings import load_settings
from tagmill.store import Job

PAGES = 6
MOMENTS = (
    "job 1 after",
    "append 1 before",
    "append 1 inside",
    "append 1 after",
    "send 1 inside",
    "send 1 after",
    "append 3 inside",
    "send 3 inside",
    f"append {PAGES} after",
    f"send {PAGES} inside",
)
"""When a producer of six pages dies: at the n-th call of what writes or sends a page."""

DRAINED_S = 60.0


def killed(cluster: Cluster, *, moments: tuple[str, ...] = MOMENTS) -> Proof:
    """SIGKILL of a producer at exact moments, and `enqueue --resume` each time.

    Raises:
        RuntimeError: if it does not die, or its listing cannot be resumed.
    """
    jobs = [_killed_at(cluster, moment) for moment in moments]
    counted = [cluster.tally(job) for job in jobs[:-1]]
    return Proof(
        counted=(*counted, cluster.count(jobs[-1])),
        detail=f"killed at {len(moments)} moments: {', '.join(moments)}",
    )


def _killed_at(cluster: Cluster, moment: str) -> Job:
    environment = {
        "PYTHONPATH": path_of("producer"),
        "FAULT_PAGE_ITEMS": str(cluster.field.items // PAGES),
    }
    died = cluster.command(
        "enqueue", cluster.field.folder(), "--again", **environment, FAULT_MOMENT=moment
    )
    if died.returncode != -signal.SIGKILL:
        raise RuntimeError(f"at {moment}: exit code {died.returncode}: {died.stderr}")
    job = cluster.store.jobs.recent(1)[0]
    resumed = cluster.command("enqueue", "--resume", job.id, **environment)
    if resumed.returncode != 0 and not cluster.store.jobs.get(job.id).state.is_finished:
        raise RuntimeError(f"after {moment}: exit code {resumed.returncode}: {resumed.stderr}")
    return job


def doubled(servers: Servers) -> Proof:
    """Every message twice, all of them in an order of chance.

    Raises:
        TimeoutError: if lanes do not refuse the half of them.
    """
    with servers.cluster() as cluster:
        job = cluster.enqueue()
        with servers.valkey.client() as client:
            client.flushall()
        messages = cluster.store.retries.queued() * 2
        random.Random(20).shuffle(messages)
        settings = load_settings(
            broker_url=cluster.environment["TAGMILL_BROKER_URL"],
            namespace=cluster.environment["TAGMILL_NAMESPACE"],
        )
        with closing(Broker(settings)) as broker:
            broker.send(messages)
        worker = cluster.worker()
        until(
            lambda: worker.said().count("nothing to do") == len(messages) // 2,
            within_s=DRAINED_S,
            what="one of each two messages is refused",
        )
        return Proof(
            counted=(cluster.count(job),),
            detail=f"{len(messages)} messages for {job.chunks} chunks, half of them refused",
        )
