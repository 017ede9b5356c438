"""More lanes, more images: what queue and ledger cost lanes that wait for GPUs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.cluster import await_job, await_lanes, worker
from bench.ground import Ground
from bench.services import services
from bench.stand_ins import BATCH, Done, done, enqueue_items
from bench.table import Row
from tagmill.chunk_sizes import GPU_CHUNK_ITEMS
from tagmill.settings import Settings, load_settings
from tagmill.store import Store

LANES = (1, 2, 4, 8, 16)
LANE_PER_S = 125
"""Images/s that a lane's classifier computes. A lane on a GPU waits for decoding more than for the
GPU: two cores decode about so many photographs of a few megapixels. All of these lanes' own work
is done by the cores of one machine, while lanes on GPUs bring cores along."""

FASTER = (250, 500)
CHUNK = 128
"""Two batches, and what 16 lanes get anyway: a page of a listing is cut so that each has some."""

LASTS_S = 10
LEAST = 0.95
DONE_S = 90.0


def rows(ground: Ground) -> Iterator[Row]:
    """One job after the other; between them more lanes are started."""
    with _lanes(ground) as lanes:
        for count in LANES:
            lanes.start(count - len(lanes.workers))
            yield _row(lanes, LANE_PER_S, bound=count == LANES[-1])
        for per_s in FASTER:
            yield _row(lanes, per_s, bound=False)


def _row(lanes: _Lanes, per_s: int, *, bound: bool) -> Row:
    count = len(lanes.workers)
    found = lanes.run(per_s)
    ratio = at_work(found) / (count * per_s)
    return Row(
        what=f"{count} lane{'s' if count > 1 else ''} with PostgreSQL and Valkey, each a Celery "
        f"process as on GPUs, whose classifier sleeps {_batch_ms(per_s)} ms for a batch of {BATCH}:"
        f" against {count * per_s:,} images/s",
        figure=f"{ratio:.3f}",
        wanted=f"≥ {LEAST}" if bound else "",
        holds=not bound or ratio >= LEAST,
        detail=f"{at_work(found):,.0f} images/s while chunks are full; {found.rate:,.0f} over the "
        f"whole job of {found.items:,}, with its start, and its end where lanes wait for others",
    )


def _batch_ms(per_s: int) -> int:
    return BATCH * 1000 // per_s


def at_work(found: Done) -> float:
    """Images/s of all lanes, each from its first to its last commit of a chunk of full size."""
    full = max(items for _, _, items in found.chunks)
    by_lane: dict[str, list[float]] = defaultdict(list)
    for lane, at, items in found.chunks:
        if items == full:
            by_lane[lane].append(at)
    return sum(
        full * (len(commits) - 1) / (commits[-1] - commits[0])
        for commits in by_lane.values()
        if len(commits) > 1
    )


@dataclass(kw_only=True)
class _Lanes:
    """Lanes that are started one after the other and end together."""

    store: Store
    settings: Settings
    environment: dict[str, str]
    stack: contextlib.ExitStack
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, more: int) -> None:
        for _ in range(more):
            name = f"gpu{len(self.workers)}"
            command = [sys.executable, "-m", "bench.stand_ins", "--gpu", name]
            self.workers.append(self.stack.enter_context(worker(command, self.environment)))
        await_lanes(self.store, len(self.workers), self.workers)

    def run(self, per_s: int) -> Done:
        """One job of some seconds for lanes that compute that many images a second."""
        count = len(self.workers)
        job_id, first_at = enqueue_items(
            self.store,
            self.settings,
            count * per_s * LASTS_S,
            lanes=count,
            model=f"stand-in@{_batch_ms(per_s)}",
            least_items=GPU_CHUNK_ITEMS,
        )
        await_job(self.store, job_id, self.workers, within_s=DONE_S)
        return done(self.store, job_id, first_at)


@contextmanager
def _lanes(ground: Ground) -> Iterator[_Lanes]:
    with (
        services(ground.work / "scaling-services") as servers,
        servers.database() as url,
        contextlib.closing(Store(url)) as store,
        contextlib.ExitStack() as stack,
    ):
        store.prepare()
        environment = {
            **ground.environment("scaling", models=ground.work / "none"),
            "TAGMILL_BROKER_URL": servers.broker_url,
            "TAGMILL_STORE_URL": url,
        }
        settings = load_settings(broker_url=servers.broker_url, namespace="", chunk_items=CHUNK)
        made = _Lanes(store=store, settings=settings, environment=environment, stack=stack)
        try:
            yield made
        finally:
            for process in made.workers:  # all at once; `worker` waits for each
                process.terminate()
