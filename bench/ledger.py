"""Queue and ledger alone: lanes whose fetching, decoding and prediction cost nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from bench.cluster import await_job, await_lanes, worker
from bench.ground import Ground
from bench.services import services
from bench.stand_ins import CLASSES, Done, done, enqueue_items
from bench.table import Row
from tagmill.embedded import EmbeddedBroker
from tagmill.settings import load_settings
from tagmill.state_folder import StateFolder
from tagmill.store import Store

ITEMS, LANES = 100_000, 2
LEAST_PER_S = 8_000
DONE_S = 120.0


def rows(ground: Ground) -> Iterator[Row]:
    """Enqueue items that are nowhere for lanes that look at none of them."""
    folder = StateFolder(ground.work / "ledger")
    with folder.locked():
        broker = EmbeddedBroker(folder)
        broker.start()
        try:
            found = _run(ground, broker.url, f"sqlite:///{folder.path / 'tagmill.db'}")
        finally:
            broker.stop()
    yield Row(
        what=f"queue and ledger alone: {ITEMS:,} items through {LANES} lanes whose fetching, "
        "decoding and prediction are stand-ins that return at once, embedded Valkey and SQLite, "
        "from the first message to the last commit",
        figure=f"{found.rate:,.0f} images/s",
        wanted=f"≥ {LEAST_PER_S:,}/s",
        holds=found.rate >= LEAST_PER_S,
        detail=f"{len(found.chunks):,} chunks, the best 5 of {CLASSES:,} classes; enqueueing "
        "shares the cores",
    )
    with services(ground.work / "ledger-services") as servers, servers.database() as url:
        before = servers.cpu_s()
        found = _run(ground, servers.broker_url, url)
        took = [after - then for after, then in zip(servers.cpu_s(), before, strict=True)]
    yield Row(
        what="the same with Valkey on TCP and PostgreSQL",
        figure=f"{found.rate:,.0f} images/s",
        detail=f"PostgreSQL took {took[1]:.1f} s of processor time, Valkey {took[0]:.1f} s",
    )


def _run(ground: Ground, broker_url: str, store_url: str) -> Done:
    environment = {
        **ground.environment("ledger", models=ground.work / "none"),
        "TAGMILL_BROKER_URL": broker_url,
        "TAGMILL_STORE_URL": store_url,
    }
    settings = load_settings(broker_url=broker_url, namespace="")
    names = [f"cpu{n}" for n in range(LANES)]
    command = [sys.executable, "-m", "bench.stand_ins", *names]
    with contextlib.closing(Store(store_url)) as store:
        store.prepare()
        with worker(command, environment) as process:
            await_lanes(store, LANES, [process])
            job_id, first_at = enqueue_items(store, settings, ITEMS, lanes=LANES)
            await_job(store, job_id, [process], within_s=DONE_S)
        return done(store, job_id, first_at)
