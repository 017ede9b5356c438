from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tagmill.contract import ErrorCode, Item, Status
from tagmill.errors import ModelUnavailable, PermanentItemError, TransientItemError
from tagmill_worker.chunk import ChunkLoop
from tagmill_worker.fetch import Fetched
from tagmill_worker.images import Decoded
from tagmill_worker.patience import TRIES

LABELS = [("n0", "zero"), ("n1", "one"), ("n2", "two")]


class BrightnessClassifier:
    """Scores the second class by how bright an image is."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.calls: list[int] = []

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(len(images))
        bright = images.reshape(len(images), -1).mean(axis=1) / 255
        return np.stack([bright * 0, bright, 1 - bright], axis=1).astype(np.float32)


def items(count: int) -> list[Item]:
    return [Item(n=n, uri=f"file:///{n}", version="listed") for n in range(count)]


def decode(data: bytes) -> Decoded:
    if data == b"bad":
        raise PermanentItemError(ErrorCode.CORRUPT, "cut\0off \udcff")
    if data == b"bug":
        raise ZeroDivisionError("oh")
    return Decoded(pixels=np.full((4, 4, 3), data[0], np.uint8), width=7, height=5)


def loop(
    fetch: Callable[[Item], Fetched], batch_size: int = 2, decode_threads: int = 0
) -> ChunkLoop:
    return ChunkLoop(
        decode_threads=decode_threads,
        fetch=fetch,
        decode=decode,
        classifier=BrightnessClassifier(batch_size),
        labels=LABELS,
        sleep=lambda _: None,
    )


@pytest.mark.parametrize("decode_threads", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_bad_item_costs_its_neighbours_nothing(batch_size: int, decode_threads: int) -> None:
    def fetch(item: Item) -> Fetched:
        return Fetched(data=[b"\x10", b"bad", b"\xf0", b"bug", b"\x20"][item.n], version="read")

    labelled = loop(fetch, batch_size, decode_threads).run(items(5), top_k=2)
    assert [outcome.n for outcome in labelled.outcomes] == [0, 1, 2, 3, 4]
    assert [outcome.error for outcome in labelled.outcomes] == [
        None, "corrupt", None, "internal", None,
    ]  # fmt: skip
    assert [outcome.labels[0].id for outcome in labelled.outcomes if outcome.labels] == [
        "n2", "n1", "n2",
    ]  # fmt: skip
    assert labelled.seen == {"two": 2, "one": 1}
    assert labelled.failures == {"corrupt": 1, "internal": 1}
    assert {outcome.version for outcome in labelled.outcomes} == {"read"}


class Choosy(BrightnessClassifier):
    """Breaks on a batch with a dark image in it, as one with a fault of its own would."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        if (images.reshape(len(images), -1).mean(axis=1) < self.darkest).any():
            raise RuntimeError("no kernel for that")
        return super().predict(images)

    darkest = 20


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_image_on_which_the_classifier_breaks_costs_its_neighbours_nothing(batch_size: int) -> None:
    chosen = dataclasses.replace(
        loop(lambda item: Fetched(data=[b"\x30", b"\x08", b"\x40"][item.n], version="v")),
        classifier=Choosy(batch_size),
    )
    labelled = chosen.run(items(3), top_k=1)
    assert [outcome.error for outcome in labelled.outcomes] == [None, "internal", None]
    assert labelled.outcomes[1].message == "RuntimeError('no kernel for that')"


def test_classifier_that_breaks_on_all_images_is_no_images_fault() -> None:
    broken = dataclasses.replace(
        loop(lambda _: Fetched(data=b"\x08", version="v")), classifier=Choosy(2)
    )
    with pytest.raises(RuntimeError, match="no kernel"):
        broken.run(items(2), top_k=1)


def test_lane_has_in_hand_what_it_decodes_or_labels_alone() -> None:
    held: list[int] = []

    @contextlib.contextmanager
    def holding(n: int) -> Iterator[None]:
        held.append(n)
        yield
        held.append(-n)

    watched = dataclasses.replace(
        loop(lambda _: Fetched(data=b"\x10", version="v"), batch_size=1), holding=holding
    )
    watched.run(items(3), top_k=1)
    assert held == [0, 0, 0, 0, 1, -1, 1, -1, 2, -2, 2, -2]


def test_messages_hold_nothing_that_a_database_refuses() -> None:
    labelled = loop(lambda _: Fetched(data=b"bad", version="")).run(items(1), top_k=1)
    message = labelled.outcomes[0].message
    assert message is not None
    assert "\0" not in message
    message.encode()


def test_transient_failure_is_tried_again_and_then_recorded() -> None:
    tried: list[int] = []

    def fetch(item: Item) -> Fetched:
        tried.append(item.n)
        if item.n == 0 or len(tried) < 5:
            raise TransientItemError(ErrorCode.UNAVAILABLE, "later")
        return Fetched(data=b"\x10", version="v")

    labelled = loop(fetch).run(items(2), top_k=1)
    assert [outcome.status for outcome in labelled.outcomes] == [Status.FAILED, Status.OK]
    assert tried == [0] * TRIES + [1, 1]


def test_ties_go_to_the_class_that_comes_first() -> None:
    labelled = loop(lambda _: Fetched(data=b"\x00", version="v")).run(items(1), top_k=3)
    assert [label.id for label in labelled.outcomes[0].labels] == ["n2", "n0", "n1"]
    assert [label.score for label in labelled.outcomes[0].labels] == [1.0, 0.0, 0.0]


def test_ties_at_the_edge_of_top_k_go_to_the_class_that_comes_first() -> None:
    scores = np.zeros(1000, np.float32)
    scores[[900, 3, 500]] = 0.25
    labels = [(f"n{i}", str(i)) for i in range(1000)]
    equal = dataclasses.replace(loop(lambda _: Fetched(data=b"\x10", version="v")), labels=labels)
    assert [label.id for label in equal._best(scores, 2)] == ["n3", "n500"]


def test_more_labels_than_classes_are_all_classes() -> None:
    labelled = loop(lambda _: Fetched(data=b"\x10", version="v")).run(items(1), top_k=50)
    assert len(labelled.outcomes[0].labels) == 3


def test_threads_read_ahead_within_bounds_and_keep_the_order() -> None:
    batch_size, threads = 4, 3
    lock = threading.Lock()
    begun: list[int] = []

    class Watching(BrightnessClassifier):
        def predict(self, images: np.ndarray) -> np.ndarray:
            with lock:
                ahead.append(len(begun) - sum(self.calls) - len(images))
            return super().predict(images)

    def fetch(item: Item) -> Fetched:
        with lock:
            begun.append(item.n)
        return Fetched(data=bytes([item.n]), version=str(item.n))

    ahead: list[int] = []
    ticks = iter(range(1_000_000))
    made = dataclasses.replace(
        loop(fetch, decode_threads=threads),
        classifier=Watching(batch_size),
        clock=lambda: float(next(ticks)),
    )
    labelled = made.run(items(50), top_k=3)
    assert [outcome.version for outcome in labelled.outcomes] == [str(n) for n in range(50)]
    scores = [
        {label.id: label.score for label in outcome.labels}["n1"] for outcome in labelled.outcomes
    ]
    assert scores == pytest.approx([n / 255 for n in range(50)], abs=1e-6)
    assert 0 <= min(ahead) <= max(ahead) <= batch_size + threads
    spent = labelled.spent
    assert spent.fetch_s >= 50, "each read of the clock is a tick"
    assert spent.decode_s >= 50


@pytest.mark.parametrize("decode_threads", [0, 3])
def test_fault_of_no_item_ends_the_chunk(decode_threads: int) -> None:
    def fetch(item: Item) -> Fetched:
        if item.n == 5:
            raise ModelUnavailable("credentials are gone")
        return Fetched(data=b"\x10", version="v")

    with pytest.raises(ModelUnavailable, match="credentials are gone"):
        loop(fetch, decode_threads=decode_threads).run(items(20), top_k=1)


@pytest.mark.parametrize("decode_threads", [0, 3])
def test_classifier_that_lowers_its_batch_size_on_the_way_skips_no_item(
    decode_threads: int,
) -> None:
    class Shrinking(BrightnessClassifier):
        def predict(self, images: np.ndarray) -> np.ndarray:
            self.batch_size = max(1, self.batch_size // 2)
            return super().predict(images)

    made = loop(lambda item: Fetched(data=bytes([item.n]), version=""), 8, decode_threads)
    shrinking = Shrinking(8)
    labelled = dataclasses.replace(made, classifier=shrinking).run(items(20), top_k=1)
    assert [outcome.n for outcome in labelled.outcomes] == list(range(20))
    assert shrinking.calls == [8, 4, 2, 1, 1, 1, 1, 1, 1]
