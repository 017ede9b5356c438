"""Producers, lanes and ticks all at once on one store: no deadlock, no item lost or doubled."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.ledger import MODEL, SUMMARY, outcomes

from tagmill import enqueue as use_case
from tagmill.contract import ChunkMessage, ErrorCode, JobState
from tagmill.enqueue import enqueue
from tagmill.errors import ClaimLost
from tagmill.store import LaneNote, LaneState, Store

PRODUCERS, LANES, ITEMS = 3, 8, 600


class Wire:
    """A broker that delivers in any order, each message up to three times."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._messages: list[ChunkMessage] = []

    def send(self, messages: Sequence[ChunkMessage]) -> None:
        with self._lock:
            for message in messages:
                self._messages += [message] * self._random.randint(1, 3)
            self._random.shuffle(self._messages)

    def take(self) -> tuple[ChunkMessage, float] | None:
        with self._lock:
            return (self._messages.pop(), self._random.random()) if self._messages else None


def found(name: str) -> Iterator[tuple[str, str]]:
    for n in range(ITEMS):
        yield f"file:///{name}/{n}.jpg", "1-1"


@pytest.mark.parametrize("seed", [1])
def test_crowd_ends_with_one_outcome_for_every_item(
    store_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use_case, "PAGE_ITEMS", 50)
    stores = [Store(store_url) for _ in range(PRODUCERS + LANES + 2)]
    stores[0].prepare()
    wire = Wire(seed)
    jobs = [
        stores[0].jobs.create(source=f"file:///{name}", model=MODEL, top_k=5)
        for name in range(PRODUCERS)
    ]

    def is_over() -> bool:
        return all(stores[0].jobs.get(job.id).state is JobState.DONE for job in jobs)

    def produce(store: Store, number: int) -> None:
        enqueue(
            found(str(number)), jobs[number], store=store, send=wire.send, lanes=4, chunk_items=16
        )

    def label(store: Store, name: str) -> None:
        note = LaneNote(name=name, pid=1, device="", state=LaneState.LABELLING)
        while not is_over():
            taken = wire.take()
            if taken is None:
                continue
            message, fate = taken
            claim = store.ledger.claim(message.job, message.seq, lane=name, lease_s=0.05)
            if claim is None or fate > 0.9:  # the lane dies, its chunk in hand
                continue
            if fate < 0.3:  # it is taken for dead, and is not
                time.sleep(0.06)
            store.lanes.note(note, claim=claim, lease_s=0.5)
            code = ErrorCode.FORBIDDEN if fate < 0.1 else None
            try:
                store.ledger.commit(claim, outcomes(claim, code), SUMMARY)
            except ClaimLost:
                continue

    def remind(store: Store) -> None:
        while not is_over():
            wire.send(store.retries.release_expired())
            wire.send(store.retries.queued()[:5])

    with ThreadPoolExecutor(len(stores)) as pool:
        running = [pool.submit(produce, stores[n], n) for n in range(PRODUCERS)]
        running += [pool.submit(label, stores[PRODUCERS + n], f"lane{n}") for n in range(LANES)]
        running += [pool.submit(remind, store) for store in stores[-2:]]
        for future in running:
            future.result(timeout=120)
    for job in jobs:
        done = stores[0].jobs.get(job.id)
        assert (done.listed, done.ok + done.failed, done.pending) == (ITEMS, ITEMS, 0)
        assert [result.n for result in stores[0].outcomes.results(job.id)] == list(range(ITEMS))
    for store in stores:
        store.close()
