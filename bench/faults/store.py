"""A store that is restarted, cut off, paused, or locked. Lanes and a scheduler are at work."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from bench.faults.cluster import Cluster, Servers
from bench.faults.counting import Proof
from bench.faults.servers import PostgreSQL

CUTS_EVERY_S = 0.2


def crashed(cluster: Cluster, postgres: PostgreSQL, *, away_s: float) -> Proof:
    """PostgreSQL crashes and is started again."""
    job = cluster.enqueue()
    cluster.await_busy(job)
    broken = cluster.in_hand(job)
    postgres.kill()
    time.sleep(away_s)
    postgres.start()
    recovered_s = cluster.recovery_s(job, broken)
    return Proof(
        counted=(cluster.count(job),),
        recovered_s=recovered_s,
        detail=f"away for {away_s:g} s, work on {cluster.dropped()} chunks was done again",
    )


def cut(cluster: Cluster, postgres: PostgreSQL, *, cuts: int) -> Proof:
    """All connections to the database are cut, again and again."""
    job = cluster.enqueue()
    cluster.await_busy(job)
    broken, connections = cluster.in_hand(job), 0
    for _ in range(cuts):
        connections += postgres.cut(cluster.store_url)
        time.sleep(CUTS_EVERY_S)
    recovered_s = cluster.recovery_s(job, broken)
    return Proof(
        counted=(cluster.count(job),),
        recovered_s=recovered_s,
        detail=f"{connections} connections in {cuts} cuts",
    )


def paused(cluster: Cluster, postgres: PostgreSQL, *, pause_s: float) -> Proof:
    """SIGSTOP of all processes of PostgreSQL."""
    job = cluster.enqueue()
    cluster.await_busy(job)
    broken = cluster.in_hand(job)
    with postgres.paused():
        time.sleep(pause_s)
    recovered_s = cluster.recovery_s(job, broken)
    return Proof(
        counted=(cluster.count(job),), recovered_s=recovered_s, detail=f"for {pause_s:g} s"
    )


def locked(servers: Servers, *, locked_s: float) -> Proof:
    """Another program holds the write lock of the SQLite file that a machine's lanes share."""
    file = servers.field.work / "shared.db"
    with servers.cluster(store_url=f"sqlite:///{file}") as cluster:
        cluster.scheduler()
        cluster.worker()
        job = cluster.enqueue()
        cluster.await_busy(job)
        with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            broken, before = cluster.in_hand(job), cluster.outcomes(job)
            time.sleep(locked_s)
            written = cluster.outcomes(job) - before
            holder.execute("ROLLBACK")
        recovered_s = cluster.recovery_s(job, broken)
        if written:
            raise RuntimeError(f"{written} outcomes were written: it was not locked")
        return Proof(
            counted=(cluster.count(job),), recovered_s=recovered_s, detail=f"for {locked_s:g} s"
        )
