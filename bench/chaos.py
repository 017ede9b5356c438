"""The table of faults, at length: what a cluster on this machine comes through, item by item."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from subprocess import SubprocessError

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from bench.faults import broker, clocks, disk, images, lanes, objects, producer, store, trainer
from bench.faults.cluster import Cluster, Servers, servers
from bench.faults.counting import Counted, Proof
from bench.faults.field import Field
from bench.faults.undisturbed import undisturbed
from bench.ground import COPIES, Ground
from bench.moto import moto_server
from bench.relay import Relay
from bench.table import Row
from tagmill.errors import TagmillError

KILLS = 30
KILLS_COPIES = 25
"""Of each photograph where a lane is killed every second: they must last for half a minute."""

PAUSE_S = 30.0
AWAY_S = 90.0
"""More than two leases."""

LOCKED_S = 20.0
CUTS = 30
IDLE_S = 5.0
RECOVERED_S = 60.0
SHUTDOWN_S = 30.0
AT_ONCE_S = 5.0
SHORT_LEASE_S = 6.0
"""Of lanes that are stopped, or hang, for longer than that."""

_FAILURES = (
    RuntimeError, OSError, SubprocessError, RedisError, SQLAlchemyError, TagmillError,
    disk.NoMount, broker.NoRabbit,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table.

    Attributes:
        what: is broken.
        run: breaks it.
        within_s: that recovering may take; ``None`` where there is nothing to be waited for.
        lost: items that must end as `lane_lost`.
    """

    what: str
    run: Callable[[], Proof]
    within_s: float | None = RECOVERED_S
    lost: int = 0


def rows(ground: Ground) -> Iterator[Row]:
    """Break one thing after the other, each in a cluster of its own."""
    photos = sorted(ground.photos.glob("*.jpg"))
    models = ground.registry.folder
    work = ground.work / "chaos"
    work.mkdir(mode=0o700)
    labels = undisturbed(work, models, photos)
    field = Field(work=work, models=models, photos=photos, labels=labels, copies=COPIES)
    with servers(field) as own, moto_server() as (_, s3):
        cases = [case for case in _cases(field, own, s3) if ground.only in case.what]
        if not cases:
            sys.exit(f"no row of chaos has {ground.only!r} in it")
        for case in cases:
            yield _row(case)


def _cases(field: Field, own: Servers, s3: dict[str, str]) -> Iterator[Case]:
    valkey, postgres = own.valkey, own.postgres

    def idle(run: Callable[..., Proof], **options: object) -> Callable[[], Proof]:
        return partial(_in_cluster, own, run, workers=0, **options)

    def at_work(run: Callable[..., Proof], **options: object) -> Callable[[], Proof]:
        return partial(_in_cluster, own, run, workers=1, **options)

    yield Case(
        what=f"SIGKILL of a random lane every second, {KILLS} times: the longest that one was away",
        run=idle(lanes.killed_lanes, kills=KILLS, copies=KILLS_COPIES),
        within_s=IDLE_S,
    )
    yield Case(
        what="SIGKILL of a worker and its lanes, a new one started",
        run=idle(lanes.killed_worker),
    )
    yield Case(
        what="SIGTERM to a worker at work: until it has ended",
        run=idle(lanes.asked_to_end),
        within_s=SHUTDOWN_S,
    )
    yield Case(
        what="SIGSTOP of a lane past its lease, then SIGCONT: until its commit is refused",
        run=idle(lanes.paused_lane, lease_s=SHORT_LEASE_S),
        within_s=AT_ONCE_S,
    )
    for keeps in (True, False):
        yield Case(
            what=f"Valkey killed and restarted, {'with' if keeps else 'without'} append-only file",
            run=at_work(broker.killed, valkey=valkey, keeps=keeps),
        )
    yield Case(
        what=f"Valkey stopped for {PAUSE_S:.0f} s",
        run=at_work(broker.paused, valkey=valkey, pause_s=PAUSE_S),
    )
    yield Case(what="Valkey flushed", run=at_work(broker.flushed, valkey=valkey))
    yield Case(
        what="Valkey's memory limit reached while enqueueing, then `--resume`",
        run=partial(broker.full_while_enqueueing, own),
        within_s=None,
    )
    yield Case(
        what=f"Valkey's memory limit reached for {PAUSE_S:.0f} s while lanes are at work",
        run=at_work(broker.full_while_working, valkey=valkey, full_s=PAUSE_S),
    )
    yield Case(
        what="RabbitMQ: SIGKILL of a worker and its lanes, a new one started",
        run=partial(_on_rabbit, own, lambda cluster, _: lanes.killed_worker(cluster)),
    )
    yield Case(
        what=f"all connections to RabbitMQ cut, {CUTS} times",
        run=partial(_on_rabbit, own, partial(broker.rabbit_cut, cuts=CUTS)),
    )
    for away_s in (1.0, AWAY_S):
        yield Case(
            what=f"PostgreSQL crashed, and restarted after {away_s:.0f} s",
            run=at_work(store.crashed, postgres=postgres, away_s=away_s),
        )
    yield Case(
        what=f"all connections to PostgreSQL cut, {CUTS} times",
        run=at_work(store.cut, postgres=postgres, cuts=CUTS),
    )
    yield Case(
        what=f"PostgreSQL stopped for {PAUSE_S:.0f} s",
        run=at_work(store.paused, postgres=postgres, pause_s=PAUSE_S),
    )
    yield Case(
        what=f"SQLite locked for {LOCKED_S:.0f} s",
        run=partial(store.locked, own, locked_s=LOCKED_S),
    )
    yield Case(
        what=f"producer killed at {len(producer.MOMENTS)} moments, then `--resume`",
        run=at_work(producer.killed),
        within_s=None,
    )
    yield Case(
        what="every message twice, in an order of chance",
        run=partial(producer.doubled, own),
        within_s=None,
    )
    yield Case(
        what=f"{len(images.KINDS)} images that crash, hang or bloat whatever decodes them",
        run=partial(images.fatal, own),
        within_s=None,
        lost=len(images.KINDS),
    )
    yield Case(
        what="S3 that fails at a tenth of the requests: 500, SlowDown, resets, half bodies, stalls",
        run=partial(objects.faulty, own, s3),
        within_s=None,
    )
    yield Case(
        what="disk full under the state folder", run=partial(disk.full, field), within_s=None
    )
    yield Case(
        what="trainer killed three times in one training: its process, its lane, its worker; until "
        "it goes on",
        run=partial(trainer.killed, own, lease_s=SHORT_LEASE_S),
    )
    for sign in (-1, 1):
        off_s = sign * clocks.OFF_S
        yield Case(
            what=f"clocks of the scheduler {off_s:+} s and of a worker {-off_s:+} s off, and "
            "Valkey flushed",
            run=partial(clocks.off, own, scheduler_s=off_s, worker_s=-off_s),
        )


def _in_cluster(
    own: Servers, run: Callable[..., Proof], *, workers: int, **options: object
) -> Proof:
    with own.cluster() as cluster:
        cluster.scheduler()
        for _ in range(workers):
            cluster.worker()
        return run(cluster, **options)


def _on_rabbit(own: Servers, run: Callable[[Cluster, Relay], Proof]) -> Proof:
    with broker.rabbit(own) as (cluster, relay):
        return run(cluster, relay)


def _row(case: Case) -> Row:
    wanted = "every item once" if case.within_s is None else f"within {case.within_s:.0f} s"
    try:
        proof = case.run()
    except _FAILURES as error:  # the next case may fare better
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return Row(what=case.what, figure="-", wanted=wanted, holds=False, detail=said[:1000])
    recovered_s = proof.recovered_s if case.within_s is not None else None
    in_time = recovered_s is None or recovered_s <= (case.within_s or 0.0)
    figure = "every item once" if recovered_s is None else f"{recovered_s:.1f} s"
    holds = all(_holds(counted, case.lost) for counted in proof.counted)
    said = "; ".join(dict.fromkeys(map(str, proof.counted)))
    return Row(
        what=case.what,
        figure=figure if holds else "not every item once",
        wanted=wanted,
        holds=holds and in_time,
        detail="; ".join(filter(None, (said, proof.detail))),
    )


def _holds(counted: Counted, lost: int) -> bool:
    return (
        counted.is_complete and sum(counted.failed.values()) == lost == counted.failed["lane_lost"]
    )
