"""The loop of a lane over one chunk: fetch, decode, predict, outcomes.

Each part is passed in and timed. Whatever happens to one item becomes its own outcome and touches
no other.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice, repeat
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tagmill.contract import ErrorCode, Item, Label, Outcome, Status
from tagmill.errors import ItemError, MissingError, TagmillError
from tagmill_worker.classifiers import Classifier
from tagmill_worker.fetch import Fetched, is_remote
from tagmill_worker.hands import unwatched
from tagmill_worker.images import Decoded
from tagmill_worker.patience import Patience

log = logging.getLogger(__name__)

READ_AHEAD = 8
"""Items of a chunk that are fetched over a network at once, ahead of the one that is labelled."""

GPU_READ_AHEAD = 32
"""The same for a lane that labels in batches; S3's client has as many connections."""


@dataclass(slots=True)
class Spent:
    """Seconds spent on the chunk, by part."""

    fetch_s: float = 0.0
    decode_s: float = 0.0
    predict_s: float = 0.0

    def add(self, other: Spent) -> None:
        """Add what another thread spent."""
        self.fetch_s += other.fetch_s
        self.decode_s += other.decode_s
        self.predict_s += other.predict_s


Pixels: TypeAlias = npt.NDArray[np.uint8]
Scores: TypeAlias = npt.NDArray[np.float32]

Read: TypeAlias = tuple[str, Decoded] | Outcome
"""What reading an item gave: the version that was read and its pixels, or its outcome."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """What a chunk came to.

    Attributes:
        outcomes: one per item, in the items' order.
        seen: how often each best label was seen, by name.
        failures: how often each error code occurred.
    """

    outcomes: tuple[Outcome, ...]
    spent: Spent
    seen: dict[str, int]
    failures: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ChunkLoop:
    """How a lane labels the items of one model version.

    Attributes:
        fetch: an item's bytes. May raise `ItemError`.
        decode: bytes to pixels. May raise `ItemError`.
        classifier: pixels to scores.
        labels: the classes in the model's order, as (id, name).
        decode_threads: that fetch and decode ahead of the classifier, for one that leaves the CPU
            free; with 0 the caller's thread does, one item after the other.
        holding: an item is in the lane's hand, by its ``n``, as long as the context lasts.
        clock: seconds, monotonic.
        sleep: waits that many seconds before another try.
    """

    fetch: Callable[[Item], Fetched]
    decode: Callable[[bytes], Decoded]
    classifier: Classifier
    labels: Sequence[tuple[str, str]]
    decode_threads: int = 0
    holding: Callable[[int], AbstractContextManager[None]] = field(default=unwatched)
    clock: Callable[[], float] = field(default=time.perf_counter)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def run(
        self, items: Sequence[Item], *, top_k: int, moved: Callable[[], None] = lambda: None
    ) -> Labelled:
        """Label items.

        Args:
            items: of a chunk.
            top_k: labels kept per item.
            moved: called whenever a batch is labelled.
        """
        spent = Spent()
        outcomes: list[Outcome] = []
        patience = Patience(self.fetch, moved=moved, clock=self.clock, sleep=self.sleep)
        reading = (
            self._reading_ahead(items, patience, spent)
            if self.decode_threads
            else map(self._read, items, self._fetching(items, patience), repeat(spent))
        )
        while len(outcomes) < len(items):  # a classifier may lower its batch size on the way
            start = len(outcomes)
            batch = items[start : start + self.classifier.batch_size]
            read = list(islice(reading, len(batch)))
            outcomes.extend(self._label(batch, read, top_k, spent))
            moved()
        return Labelled(
            outcomes=tuple(outcomes),
            spent=spent,
            seen=dict(Counter(found.labels[0].name for found in outcomes if found.labels)),
            failures=dict(Counter(str(found.error) for found in outcomes if found.error)),
        )

    def _fetching(
        self, items: Sequence[Item], patience: Patience
    ) -> Iterator[Callable[[], Fetched]]:
        """For each item what gives its bytes: at once for files, awaited for what is far away."""
        ahead: deque[Callable[[], Fetched]] = deque()
        for item in items:
            fetch = partial(patience, item)
            ahead.append(self._pool.submit(fetch).result if is_remote(item) else fetch)
            if len(ahead) > (self._read_ahead if is_remote(item) else 0):
                yield ahead.popleft()
        yield from ahead

    def _reading_ahead(
        self, items: Sequence[Item], patience: Patience, spent: Spent
    ) -> Iterator[Read]:
        """What was read of each item, in order, the next ones already in the threads' hands."""
        most = self.classifier.batch_size + self.decode_threads
        ahead: deque[Future[tuple[Read, Spent]]] = deque()
        waiting = zip(items, self._fetching(items, patience), strict=True)
        try:
            for _ in items:
                for item, fetch in islice(waiting, most - len(ahead)):
                    ahead.append(self._decoders.submit(self._read_apart, item, fetch))
                read, apart = ahead.popleft().result()
                spent.add(apart)
                yield read
        finally:
            for future in ahead:
                future.cancel()

    def _read_apart(self, item: Item, fetch: Callable[[], Fetched]) -> tuple[Read, Spent]:
        spent = Spent()
        return self._read(item, fetch, spent), spent

    def _label(
        self,
        batch: Sequence[Item],
        read: Sequence[Read],
        top_k: int,
        spent: Spent,
    ) -> Iterator[Outcome]:
        both = zip(batch, read, strict=True)
        images = [(item, got[1].pixels) for item, got in both if not isinstance(got, Outcome)]
        started = self.clock()
        scores = iter(self._predict(images) if images else ())
        for item, found in zip(batch, read, strict=True):
            if isinstance(found, Outcome):
                yield found
                continue
            version, decoded = found
            scored = next(scores)
            if isinstance(scored, Exception):
                yield _failed(item, version, ErrorCode.INTERNAL, repr(scored)[:300])
                continue
            yield Outcome(
                n=item.n,
                uri=item.uri,
                version=version,
                status=Status.OK,
                width=decoded.width,
                height=decoded.height,
                labels=self._best(scored, top_k),
            )
        spent.predict_s += self.clock() - started

    def _predict(self, images: Sequence[tuple[Item, Pixels]]) -> list[Scores | Exception]:
        """The scores of images; for one that cannot be labelled though others can, what it raised.

        Raises:
            Exception: where none can be labelled: the fault is not an image's.
        """
        pixels = np.stack([pixels for _, pixels in images])
        if self.classifier.batch_size == 1:
            (item, _), *_ = images
            with self.holding(item.n):
                return [_tried(self.classifier, pixels, item)]
        try:
            return list(self.classifier.predict(pixels))
        except Exception:
            found = [_tried(self.classifier, one[np.newaxis], item) for item, one in images]
            if all(isinstance(each, Exception) for each in found):
                raise
            return found

    def _read(self, item: Item, fetch: Callable[[], Fetched], spent: Spent) -> Read:
        """The version that was read and its pixels, or the outcome of an item that has none."""
        version = item.version
        try:
            started = self.clock()
            try:
                fetched = fetch()
            finally:
                spent.fetch_s += self.clock() - started
            version = fetched.version
            started = self.clock()
            try:
                with self.holding(item.n):
                    return version, self.decode(fetched.data)
            finally:
                spent.decode_s += self.clock() - started
        except ItemError as error:
            return _failed(item, version, error.code, error.message)
        except MissingError:
            raise  # not the item's fault: no item can be read here
        except Exception as error:  # the item's boundary: its neighbours go on
            log.exception("an item failed in a way that no code covers uri=%s", item.uri)
            return _failed(item, version, ErrorCode.INTERNAL, repr(error)[:300])

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._read_ahead, thread_name_prefix="fetch")

    @property
    def _read_ahead(self) -> int:
        return READ_AHEAD if not self.decode_threads else GPU_READ_AHEAD

    @cached_property
    def _decoders(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.decode_threads, thread_name_prefix="decode")

    def _best(self, scores: npt.NDArray[np.float32], top_k: int) -> tuple[Label, ...]:
        # Stable: ties go to the class that the model names first, so that results can be compared.
        if len(scores) > top_k:  # sorting a thousand to keep five would take a third of our time
            least = np.partition(scores, -top_k)[-top_k]
            candidates = np.flatnonzero(~(scores < least))  # a score that is no number stays
            ordered = candidates[np.argsort(-scores[candidates], kind="stable")][:top_k]
        else:
            ordered = np.argsort(-scores, kind="stable")
        return tuple(
            Label(id=self.labels[i][0], name=self.labels[i][1], score=round(float(scores[i]), 6))
            for i in ordered.tolist()
        )


def _tried(classifier: Classifier, pixels: Pixels, item: Item) -> Scores | Exception:
    try:
        scores: Scores = classifier.predict(pixels)[0]
        return scores
    except TagmillError:
        raise
    except Exception as error:  # the item's boundary: its neighbours go on
        log.exception("an image cannot be labelled uri=%s", item.uri)
        return error


def _failed(item: Item, version: str, code: ErrorCode, message: str) -> Outcome:
    return Outcome(
        n=item.n,
        uri=item.uri,
        version=version,
        status=Status.FAILED,
        error=code,
        # Databases take neither NUL nor what is not Unicode.
        message=message.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0"),
    )
