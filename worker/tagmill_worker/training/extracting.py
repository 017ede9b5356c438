"""Running a network over images in processes of their own, one per core, as lanes do.

Fetching, decoding and the interpreter are those of a lane, so that a vector is what the network
gives where it labels.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tagmill.contract import Item
from tagmill.errors import ItemError, TagmillError, TransientItemError
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill_worker.chunk import READ_AHEAD
from tagmill_worker.classifiers import Classifier
from tagmill_worker.classifiers.litert import LiteRTClassifier
from tagmill_worker.fetch import Fetch, Fetched, LocalFetch, is_remote
from tagmill_worker.images import Geometry, decode
from tagmill_worker.training.cache import Computed, VectorCache
from tagmill_worker.training.outage import away, patient

log = logging.getLogger(__name__)

BLOCK_ITEMS = 32
"""Images that a process takes at once, and that are lost at most of what it has done."""

_BLOCKS_AHEAD = 2
_LOOK_S = 0.5

Place = tuple[str, str]
"""A URI and the version at which it was listed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A file that gives a vector for an image.

    Attributes:
        path: a ``.tflite``, uint8 ``(1, H, W, 3)`` in and float32 ``(1, C)`` out.
        key: changes whenever its vectors would.
        geometry: of its input.
    """

    path: Path
    key: str
    geometry: Geometry


@dataclass(frozen=True, kw_only=True, slots=True)
class Extracted:
    """What became of one image: a vector, or why there is none."""

    place: Place
    computed: Computed | None = None
    error: str = ""


def extract(
    places: Sequence[Place],
    network: Network,
    *,
    settings: Settings,
    cache: Path,
    check: Callable[[], None],
) -> Iterator[list[Extracted]]:
    """Run a network over images, block by block as they are done, in any order.

    Args:
        places: what to read.
        network: what to run.
        settings: limits, roots and how many processes.
        cache: the file of a `VectorCache` whose vectors are not computed again.
        check: called now and then; what it raises ends the work.

    Raises:
        MissingError: if an image cannot be read for now.
    """
    LiteRTClassifier(network.path)  # what is wrong with it is no image's fault
    blocks = [places[i : i + BLOCK_ITEMS] for i in range(0, len(places), BLOCK_ITEMS)]
    waiting = blocks[::-1]
    pooled = partial(_pooled, network=network, settings=settings, cache=cache, check=check)
    while waiting:
        suspects = yield from pooled(waiting, processes=settings.lane_count)
        while suspects:  # an image of theirs ended its process: alone it shows which
            block = suspects.pop()
            if not (yield from pooled([block], processes=1)):
                continue
            if len(block) == 1:
                yield [Extracted(place=block[0], error="it ends the process that reads it")]
            else:
                suspects += [block[: len(block) // 2], block[len(block) // 2 :]]


def _pooled(
    waiting: list[Sequence[Place]],
    *,
    processes: int,
    network: Network,
    settings: Settings,
    cache: Path,
    check: Callable[[], None],
) -> Generator[list[Extracted], None, list[Sequence[Place]]]:
    """Run blocks, the last first, until none waits or a process died; what was in hand then."""
    processes = min(processes, len(waiting))
    # Not forked: this process may have loaded TensorFlow, whose threads do not survive that.
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(network, settings, cache),
    )
    running: dict[Future[list[Extracted]], Sequence[Place]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes * _BLOCKS_AHEAD:
                future = pool.submit(_run, waiting[-1])
                running[future] = waiting.pop()
            done, _ = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
            check()
            for future in done:
                found = future.result()
                del running[future]
                yield found
    except BrokenProcessPool:
        return list(running.values())
    finally:
        _end(pool)
    return []


def _end(pool: ProcessPoolExecutor) -> None:
    """End a pool now: what it has in hand is wanted by nobody any more."""
    processes = list((pool._processes or {}).values())  # it offers no other way to end them
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
        process.join()


def _begin(network: Network, settings: Settings, cache: Path) -> None:
    global _extractor
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_after, args=(parent,), daemon=True).start()
    _extractor = _Extractor(network, settings, VectorCache(cache))


def _die_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _run(block: Sequence[Place]) -> list[Extracted]:
    if _extractor is None:
        raise RuntimeError("the process was not begun")
    return _extractor.run(block)


class _Extractor:
    """Fetches, decodes and runs one network, in one process."""

    def __init__(self, network: Network, settings: Settings, cache: VectorCache) -> None:
        self._network = network
        self._settings = settings
        self._cache = cache
        self._classifier: Classifier = LiteRTClassifier(network.path)
        self._fetch = Fetch(
            LocalFetch(settings.roots, max_bytes=settings.max_bytes),
            S3(settings),
            max_bytes=settings.max_bytes,
        )
        self._threads = ThreadPoolExecutor(READ_AHEAD)

    def run(self, block: Sequence[Place]) -> list[Extracted]:
        patience = patient(self._fetch)
        items = [Item(n=n, uri=uri, version=version) for n, (uri, version) in enumerate(block)]
        fetches: list[Callable[[], Fetched]] = [
            self._threads.submit(patience, item).result
            if is_remote(item)
            else partial(patience, item)
            for item in items
        ]
        return [self._one(place, fetch) for place, fetch in zip(block, fetches, strict=True)]

    def _one(self, place: Place, fetch: Callable[[], Fetched]) -> Extracted:
        try:
            fetched = fetch()
            computed = Computed(
                uri=place[0],
                version=fetched.version,
                digest=hashlib.sha256(fetched.data).hexdigest(),
                vector=None,
            )
            if self._cache.vectors(self._network.key, [computed.digest]):
                return Extracted(place=place, computed=computed)
            geometry, limit = self._network.geometry, self._settings.max_pixels
            pixels = decode(fetched.data, geometry, max_pixels=limit).pixels
            vector = self._classifier.predict(pixels[None])[0]
            return Extracted(place=place, computed=replace(computed, vector=vector))
        except TransientItemError as error:
            raise away(place[0], error) from None
        except ItemError as error:
            return Extracted(place=place, error=f"{error.code}: {error.message}")
        except TagmillError:
            raise
        except Exception as error:  # the image's boundary: its neighbours go on
            log.exception("an image failed in a way that no code covers uri=%s", place[0])
            return Extracted(place=place, error=f"internal: {error!r:.200}")


_extractor: _Extractor | None = None
