"""Lanes whose work is done by stand-ins, as `python -m bench.stand_ins LANE …`.

The process is the product's own from Celery to the commit, its loop over the items included; only
fetching, decoding and prediction are replaced. The job's model says how long the classifier sleeps
for each batch, as one does that waits for a GPU: `stand-in@512` for 512 ms.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tagmill.chunk_sizes import LEAST_CHUNK_ITEMS
from tagmill.contract import ChunkMessage, Item
from tagmill.enqueue import enqueue
from tagmill.settings import Settings, load_settings
from tagmill.store import Store

BATCH = 64
CLASSES = 1000
SIDE = 8  # pixels: what a real image's cost to copy is part of decoding it
AT_ONCE = "stand-in@0"
SPREAD = 0.05  # of a sleep, to either side: real lanes do not march in step
VERSION = "110380-1764011111000000000"


def main() -> int:
    """Run lanes of those names until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m bench.stand_ins")
    parser.add_argument("lanes", nargs="+")
    parser.add_argument("--gpu", action="store_true", help="decode ahead in threads")
    asked = parser.parse_args()
    gc.disable()
    from tagmill_worker import lane
    from tagmill_worker.app import run_worker
    from tagmill_worker.chunk import ChunkLoop
    from tagmill_worker.devices import Gpu
    from tagmill_worker.fetch import Fetched
    from tagmill_worker.images import Decoded
    from tagmill_worker.lane_files import LaneFile
    from tagmill_worker.slots import Slot

    gc.freeze()
    gc.enable()
    fetched = Fetched(data=b"bytes", version=VERSION)
    decoded = Decoded(pixels=np.zeros((SIDE, SIDE, 3), np.uint8), width=500, height=375)
    labels = [(f"n{n:08}", f"class_{n}") for n in range(CLASSES)]

    def fetch(_: Item) -> Fetched:
        return fetched

    def decode(_: bytes) -> Decoded:
        return decoded

    class StandIns:
        """Takes the place of what loads model versions."""

        def __init__(self, *_: object, decode_threads: int = 0, **__: object) -> None:
            self._decode_threads = decode_threads
            self._loops: dict[str, ChunkLoop] = {}

        def __call__(self, model: str) -> ChunkLoop:
            if model not in self._loops:
                self._loops[model] = ChunkLoop(
                    fetch=fetch,
                    decode=decode,
                    classifier=Sleeper(int(model.partition("@")[2]) / 1000),
                    labels=labels,
                    decode_threads=self._decode_threads,
                )
            return self._loops[model]

    lane.Loader = StandIns  # type: ignore[misc,assignment]
    gpu = Gpu(index=0, mig=None, uuid="GPU-none", name="stand-in") if asked.gpu else None
    slot = Slot(queue="label", lanes=tuple(map(LaneFile, asked.lanes)), gpu=gpu)
    return run_worker(load_settings(), slot, warm_up=AT_ONCE)


class Sleeper:
    """A classifier that knows its scores already.

    Args:
        batch_s: that it sleeps for each batch, however full: a GPU's batches have a fixed shape.
    """

    def __init__(self, batch_s: float) -> None:
        self.batch_size = BATCH
        self._batch_s = batch_s
        self._scores = np.random.default_rng(0).random((BATCH, CLASSES), np.float32)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if self._batch_s:
            time.sleep(self._batch_s * random.uniform(1 - SPREAD, 1 + SPREAD))
        return self._scores[: len(images)]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a job of stand-ins.

    Attributes:
        items: that it had.
        rate: images/s from its first message to its last commit.
        chunks: as (lane, committed at, items), by time.
    """

    items: int
    rate: float
    chunks: list[tuple[str, float, int]]


def enqueue_items(
    store: Store,
    settings: Settings,
    items: int,
    *,
    lanes: int,
    model: str = AT_ONCE,
    least_items: int = LEAST_CHUNK_ITEMS,
) -> tuple[str, float]:
    """Enqueue that many items that are nowhere: the job, and the time before its first message."""
    from tagmill.broker import Broker

    first_at = 0.0
    sender = Broker(settings)

    def send(messages: Sequence[ChunkMessage]) -> None:
        nonlocal first_at
        first_at = first_at or time.time()
        sender.send(messages)

    job = store.jobs.create(source="file:///stand-ins", model=model, top_k=5)
    try:
        enqueue(
            _found(job.id, items),
            job,
            store=store,
            send=send,
            lanes=lanes,
            chunk_items=settings.chunk_items,
            least_items=least_items,
        )
    finally:
        sender.close()
    return job.id, first_at


def done(store: Store, job_id: str, first_at: float) -> Done:
    """What a job that has ended came to.

    Raises:
        RuntimeError: if an item has no outcome.
    """
    job = store.jobs.get(job_id)
    if job.ok != job.listed:
        raise RuntimeError(f"job {job_id}: {job.ok:,} outcomes for {job.listed:,} items")
    chunks = []
    for _, at, summary in store.jobs.summaries(job_id):
        items = sum(summary.seen.values())
        chunks.append((summary.lane, at, items))
    rate = job.listed / (chunks[-1][1] - first_at)
    return Done(items=job.listed, rate=rate, chunks=chunks)


def _found(folder: str, items: int) -> Iterator[tuple[str, str]]:
    for n in range(items):
        yield f"file:///srv/{folder}/{n // 1000:06}/{n:09}.jpg", VERSION


if __name__ == "__main__":
    sys.exit(main())
