"""A broker that is killed, paused, emptied, or full. Lanes and a scheduler are at work."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from bench.faults.cluster import Cluster, Servers
from bench.faults.counting import Proof
from bench.faults.servers import Valkey
from bench.relay import Relay
from bench.services import RABBIT, delete_queues, is_rabbitmq_there
from tagmill.settings import load_settings
from tagmill.store import Job

ROOM_BYTES = 16_000
"""Of a broker that is nearly full: less than a job's messages take."""

REFUSED = 3
CUTS_EVERY_S = 0.5


class NoRabbit(Exception):
    """There is no RabbitMQ here."""


def killed(cluster: Cluster, valkey: Valkey, *, keeps: bool, away_s: float = 1.0) -> Proof:
    """SIGKILL of the broker, and a new one on the same port and folder.

    Args:
        cluster: at work.
        valkey: its broker.
        keeps: whether it has an append-only file.
        away_s: for how long there is none.
    """
    with valkey.client() as client:
        client.config_set("appendonly", "yes" if keeps else "no")
    job = _busy(cluster)
    valkey.kill()
    broken = cluster.in_hand(job)
    time.sleep(away_s)
    valkey.start(keeps=keeps)
    detail = f"{len(broken)} chunks in hand; away for {away_s:g} s"
    return _proof(cluster, job, broken, detail)


def paused(cluster: Cluster, valkey: Valkey, *, pause_s: float) -> Proof:
    """SIGSTOP of the broker."""
    job = _busy(cluster)
    with valkey.paused():
        broken = cluster.in_hand(job)
        time.sleep(pause_s)
    return _proof(cluster, job, broken, f"for {pause_s:g} s")


def flushed(cluster: Cluster, valkey: Valkey) -> Proof:
    """FLUSHALL: messages that wait and messages in hand are gone."""
    job = _busy(cluster)
    with valkey.client() as client:
        client.flushall()
    return _proof(cluster, job, cluster.in_hand(job), "all messages gone")


@contextmanager
def rabbit(servers: Servers) -> Iterator[tuple[Cluster, Relay]]:
    """A cluster with a scheduler on the RabbitMQ of this machine, whose connections can be cut.

    Raises:
        NoRabbit: if none answers.
    """
    if not is_rabbitmq_there():
        raise NoRabbit("no RabbitMQ on its standard port")
    here = urlsplit(RABBIT)
    namespace = f"faults-{uuid.uuid4().hex[:8]}"
    with closing(Relay(here.port or 0)) as relay:
        url = here._replace(netloc=f"guest:guest@127.0.0.1:{relay.port}").geturl()
        try:
            with servers.cluster(broker_url=url, TAGMILL_NAMESPACE=namespace) as cluster:
                cluster.scheduler()
                yield cluster, relay
        finally:
            delete_queues(load_settings(broker_url=RABBIT, namespace=namespace))


def rabbit_cut(cluster: Cluster, relay: Relay, *, cuts: int) -> Proof:
    """All connections to RabbitMQ are cut, again and again: it delivers what is in hand to others.

    Raises:
        RuntimeError: if that costs a lane its chunk.
    """
    cluster.worker()
    job = _busy(cluster)
    broken, connections = cluster.in_hand(job), 0
    for _ in range(cuts):
        connections += relay.cut()
        time.sleep(CUTS_EVERY_S)
    proof = _proof(cluster, job, broken, f"{connections} connections in {cuts} cuts")
    losses = sum(row.losses for row in cluster.chunks(job))
    if losses or cluster.dropped():
        raise RuntimeError(f"{losses} losses, {cluster.dropped()} times work was dropped")
    return proof


def full_while_enqueueing(servers: Servers) -> Proof:
    """The broker's memory limit is reached by a producer; `--resume` goes on when it is raised.

    Raises:
        RuntimeError: if the producer does not say what is wrong, and how to go on.
    """
    valkey = servers.valkey
    with servers.cluster() as cluster, valkey.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + ROOM_BYTES)
        refused = cluster.command("enqueue", cluster.field.folder())
        job = cluster.store.jobs.recent(1)[0]
        client.config_set("maxmemory", 0)
        resume = f"enqueue --resume {job.id}"
        for wanted in (urlsplit(valkey.url).netloc, "maxmemory", resume):
            if refused.returncode != REFUSED or wanted not in refused.stderr:
                raise RuntimeError(f"exit code {refused.returncode}: {refused.stderr}")
        resumed = cluster.command("enqueue", "--resume", job.id)
        if resumed.returncode != 0:
            raise RuntimeError(f"exit code {resumed.returncode}: {resumed.stderr}")
        cluster.worker()
        return Proof(counted=(cluster.count(job),), detail=_sentence(refused.stderr))


def full_while_working(cluster: Cluster, valkey: Valkey, *, full_s: float) -> Proof:
    """The broker has no memory left while lanes are at work, then its limit is raised.

    Raises:
        RuntimeError: if a worker ends.
    """
    job = _busy(cluster)
    with valkey.client() as client:
        client.config_set("maxmemory", 1)
        broken = cluster.in_hand(job)
        time.sleep(full_s)
        client.config_set("maxmemory", 0)
    ended = [program.said() for program in cluster.programs if not program.is_running]
    if ended:
        raise RuntimeError(f"programs ended: {ended}")
    return _proof(cluster, job, broken, f"for {full_s:g} s")


def _sentence(said: str) -> str:
    return next(line for line in said.splitlines() if "maxmemory" in line)


def _busy(cluster: Cluster) -> Job:
    job = cluster.enqueue()
    cluster.await_busy(job)
    return job


def _proof(cluster: Cluster, job: Job, broken: dict[int, str], detail: str) -> Proof:
    recovered_s = cluster.recovery_s(job, broken)
    return Proof(counted=(cluster.count(job),), recovered_s=recovered_s, detail=detail)
