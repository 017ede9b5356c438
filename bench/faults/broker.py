"""A broker that is killed, paused, emptied, or full. Lanes and a scheduler are at work."""

from __future__ import annotations

import time

from bench.faults.cluster import Cluster
from bench.faults.counting import Proof
from bench.faults.servers import Valkey
from tagmill.store import Job


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


def _busy(cluster: Cluster) -> Job:
    job = cluster.enqueue()
    cluster.await_busy(job)
    return job


def _proof(cluster: Cluster, job: Job, broken: dict[int, str], detail: str) -> Proof:
    recovered_s = cluster.recovery_s(job, broken)
    return Proof(counted=(cluster.count(job),), recovered_s=recovered_s, detail=detail)
