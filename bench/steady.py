"""`tagmill run` at work, against bare lanes: what queue, ledger and store cost."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from bench.ground import VERSION, Ground
from bench.table import Row
from tagmill.contract import Item
from tagmill.sources import file_uri, file_version
from tagmill_worker.chunk import ChunkLoop
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.fetch import LocalFetch
from tagmill_worker.images import Geometry, decode

PAIRS = 5
CHUNKS = "SELECT committed_at, summary, size FROM chunks"
_PARTS = ("fetch", "decode", "predict")


def rows(ground: Ground) -> Iterator[Row]:
    """Run both in turns; the median of the ratios counts."""
    lanes = BareLanes(ground)
    ground.run("warm")
    pairs = []
    for turn in range(PAIRS):
        bare = lanes.rate()
        ground.run(f"steady{turn}")
        pairs.append((steady_rate(ground, f"steady{turn}"), bare))
    ratio = statistics.median(run / bare for run, bare in pairs)
    run, bare = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    yield Row(
        what="`tagmill run` on 1,000 photographs, from the first chunk's start to the last commit, "
        f"against {ground.lanes} bare lanes",
        figure=f"{ratio:.3f}",
        wanted="≥ 0.90",
        holds=ratio >= 0.90,
        detail=f"{run:,.0f} against {bare:,.0f} images/s, median of {PAIRS} pairs",
    )


def steady_rate(ground: Ground, state: str) -> float:
    """Images/s between the moment when the first lane took up work and the last commit."""
    return rate_of(ground.ledger(state, CHUNKS))


def rate_of(chunks: Iterable[Sequence[Any]]) -> float:
    """The same from rows of `CHUNKS`, wherever they lie."""
    items = 0
    begun, ended = [], []
    for committed_at, summary, size in chunks:
        timings = json.loads(summary)["timings"]
        begun.append(committed_at - sum(timings[f"{part}_s"] for part in _PARTS))
        ended.append(committed_at)
        items += size
    return items / (max(ended) - min(begun))


class BareLanes:
    """The same fetching, decoding and prediction in one thread per core, and nothing around it.

    Decoding and prediction leave Python's lock, so that threads do as well as processes.
    """

    def __init__(self, ground: Ground) -> None:
        registry = ground.registry
        card = registry.card(VERSION)
        geometry = Geometry(
            size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio
        )
        paths = sorted(ground.thousand.iterdir())
        self._items = [
            Item(n=n, uri=file_uri(str(path)), version=file_version(str(path)))
            for n, path in enumerate(paths)
        ]
        self._loops = [
            ChunkLoop(
                fetch=LocalFetch([ground.thousand], max_bytes=1 << 27),
                decode=partial(decode, geometry=geometry, max_pixels=1 << 27),
                classifier=load_classifier("litert", registry, VERSION),
                labels=registry.labels(VERSION),
            )
            for _ in range(ground.lanes)
        ]

    def rate(self) -> float:
        """Images/s over all of them, from the start of the threads to the end of the last."""
        waiting = iter(self._items)
        lock = threading.Lock()

        def work(loop: ChunkLoop) -> None:
            while True:
                with lock:
                    item = next(waiting, None)
                if item is None:
                    return
                loop.run([item], top_k=5)

        threads = [threading.Thread(target=work, args=[loop]) for loop in self._loops]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(self._items) / (time.perf_counter() - began)
