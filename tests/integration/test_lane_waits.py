"""For how long a lane waits for a store or a registry that is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from support.clock import Time
from support.ledger import claim, job_with

from tagmill.contract import ChunkMessage, Item, Outcome, Status
from tagmill.errors import ModelAway, StoreAway, StoreError
from tagmill.settings import load_settings
from tagmill.store import LaneNote, LaneState, Store
from tagmill.store.losses import MOST_LOSSES
from tagmill_worker.chunk import ChunkLoop, Labelled, Spent
from tagmill_worker.heartbeat import Heartbeat
from tagmill_worker.lane import REGISTRY_PAUSE_S, RESERVE_S, STORE_WAIT_S, Lane

LIMIT_S = 600.0
LONGEST_PAUSE_S = 10.0


class Away:
    """A part of a store of which one call fails for so many seconds from its first."""

    def __init__(self, part: Any, call: str, for_s: float, error: StoreError, time: Time) -> None:
        self._part, self._call, self._for_s = part, call, for_s
        self._error, self._time = error, time
        self._until_s: float | None = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        return partial(self._try, found) if name == self._call else found

    def _try(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if self._until_s is None:
            self._until_s = self._time.now_s + self._for_s
        if self._time.now_s < self._until_s:
            raise self._error
        return call(*arguments, **named)


class Loop:
    """Labels in so many seconds."""

    def __init__(self, takes_s: float, time: Time) -> None:
        self._takes_s, self._time = takes_s, time

    def run(self, items: Sequence[Item], *, top_k: int, moved: Callable[[], None]) -> Labelled:
        self._time.now_s += self._takes_s
        found = (
            Outcome(n=item.n, uri=item.uri, version="1-2", status=Status.OK, width=1, height=1)
            for item in items
        )
        return Labelled(outcomes=tuple(found), spent=Spent(), seen={}, failures={})


@pytest.fixture
def time() -> Time:
    return Time()


def lane(store: Store, time: Time, load: Callable[[str], Any]) -> Lane:
    note = LaneNote(name="lane", pid=1, device="cpu", state=LaneState.STARTING)
    loaded: Callable[[str], ChunkLoop] = load
    return Lane(
        "lane",
        settings=load_settings(),
        store=store,
        load=loaded,
        heartbeat=Heartbeat(note, store=store, lease_s=60),
        time_limit_s=LIMIT_S,
        clock=time.clock,
        sleep=time.sleep,
        chance=lambda: 0.25,
    )


def away(store: Store, time: Time, call: str, for_s: float, error: StoreError) -> None:
    part = "losses" if call == "split" else "ledger"
    setattr(store, part, Away(getattr(store, part), call, for_s, error, time))


@pytest.mark.parametrize("call", ["claim", "commit"])
def test_store_that_is_away_for_minutes_costs_no_work(store: Store, time: Time, call: str) -> None:
    job = job_with(store, 2)
    away(store, time, call, STORE_WAIT_S - 20, StoreAway("away"))
    assert lane(store, time, lambda _: Loop(10, time)).do(ChunkMessage(job=job.id, seq=0)) == []
    assert store.jobs.get(job.id).ok == 2
    assert STORE_WAIT_S - 20 < time.now_s < LIMIT_S


def test_wait_for_a_store_that_stays_away_ends_after_five_minutes(store: Store, time: Time) -> None:
    job = job_with(store, 2)
    away(store, time, "commit", 1e9, StoreAway("away"))
    with pytest.raises(StoreAway):
        lane(store, time, lambda _: Loop(10, time)).do(ChunkMessage(job=job.id, seq=0))
    assert STORE_WAIT_S + 10 <= time.now_s <= STORE_WAIT_S + 10 + LONGEST_PAUSE_S


@pytest.mark.parametrize("took_s", [400.0, 550.0])
def test_all_waits_of_a_chunk_end_before_its_time_limit(
    store: Store, time: Time, took_s: float
) -> None:
    job = job_with(store, 2)
    away(store, time, "commit", 1e9, StoreAway("away"))
    with pytest.raises(StoreAway):
        lane(store, time, lambda _: Loop(took_s, time)).do(ChunkMessage(job=job.id, seq=0))
    assert time.now_s <= max(took_s, LIMIT_S - RESERVE_S + LONGEST_PAUSE_S)
    assert (time.slept == []) == (took_s > LIMIT_S - RESERVE_S)


def test_store_that_only_a_person_mends_is_not_waited_for(store: Store, time: Time) -> None:
    job = job_with(store, 2)
    away(store, time, "claim", 1, StoreError("no such table"))
    with pytest.raises(StoreError, match="no such table"):
        lane(store, time, lambda _: Loop(10, time)).do(ChunkMessage(job=job.id, seq=0))
    assert time.slept == []


def test_chunk_is_split_once_the_store_is_back(store: Store, time: Time) -> None:
    job = job_with(store, 2)
    for _ in range(MOST_LOSSES):
        held = claim(store, job)
        store.losses.note(job.id, 0, lane="dies", attempt=held.attempt, in_hand=(), why="killed")
    away(store, time, "split", 100, StoreAway("away"))
    waiting = lane(store, time, lambda _: Loop(10, time)).do(ChunkMessage(job=job.id, seq=0))
    assert [message.seq for message in waiting] == [1, 2]
    assert time.now_s >= 100


def test_lanes_do_not_hand_on_their_chunks_all_at_once(store: Store, time: Time) -> None:
    job = job_with(store, 2)

    def load(_: str) -> ChunkLoop:
        raise ModelAway("the registry is away")

    (handed_on,) = lane(store, time, load).do(ChunkMessage(job=job.id, seq=0))
    assert handed_on.seq == 0
    assert time.slept == [0.75 * REGISTRY_PAUSE_S]
