"""A lane against a store and a broker that misbehave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import hostile
from support.ledger import let_time_pass

from tagmill.contract import ChunkMessage, Item, JobState
from tagmill.errors import StoreAway, StoreError, StoreFull
from tagmill.registry import Registry
from tagmill.settings import Settings, load_settings
from tagmill.sources import file_uri
from tagmill.store import LaneNote, LaneState, Page, Store
from tagmill.store.losses import MOST_LOSSES, MOST_LOSSES_ALONE
from tagmill_worker.heartbeat import Heartbeat
from tagmill_worker.lane import Lane
from tagmill_worker.loading import Loader


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> Settings:
    return load_settings(models=models, roots=(tmp_path,))


@pytest.fixture
def job(tmp_path: Path, store: Store) -> str:
    """A job of eight images in one chunk."""
    items = []
    for n in range(8):
        path = tmp_path / f"{n}.jpg"
        path.write_bytes(hostile.jpeg(hostile.picture(100 + n, 80)))
        items.append(Item(n=n, uri=file_uri(str(path)), version=""))
    made = store.jobs.create(source="file:///x", model="mobilenet_v2@1", top_k=3)
    store.ledger.append(made.id, Page(chunks=[items], skipped=[], cursor=None))
    return made.id


def lane(settings: Settings, store: Store, **given: object) -> Lane:
    note = LaneNote(name="lane", pid=1, device="core 0", state=LaneState.STARTING)
    return Lane(
        "lane",
        settings=settings,
        store=store,
        load=Loader(settings, Registry(settings.models_dir)),
        heartbeat=Heartbeat(note, store=store, lease_s=settings.lease_s),
        sleep=lambda _: None,
        **given,  # type: ignore[arg-type]
    )


def test_every_message_twice_gives_every_item_one_outcome(
    settings: Settings, store: Store, job: str
) -> None:
    first, second = lane(settings, store), lane(settings, store)
    for who in (first, second, second):
        assert who.do(ChunkMessage(job=job, seq=0)) == []
    done = store.jobs.get(job)
    assert (done.state, done.ok, done.failed) == (JobState.DONE, 8, 0)
    assert [result.n for result in store.outcomes.results(job)] == list(range(8))


def test_message_for_nothing_is_forgotten(settings: Settings, store: Store, job: str) -> None:
    assert lane(settings, store).do(ChunkMessage(job=job, seq=9)) == []
    assert lane(settings, store).do(ChunkMessage(job="none", seq=0)) == []


def test_chunk_that_keeps_losing_its_lane_is_split_down_to_the_one_image(
    settings: Settings, store: Store, job: str
) -> None:
    """Item 5 kills whatever touches it: the seven others are labelled all the same."""
    healthy = lane(settings, store)
    waiting = [ChunkMessage(job=job, seq=0)]
    deaths = 0
    while waiting:
        message = waiting.pop()
        for attempt in range(MOST_LOSSES_ALONE):
            claim = store.ledger.claim(message.job, message.seq, lane="dies", lease_s=-1)
            assert claim is not None
            if all(item.n != 5 for item in claim.items):
                break
            if len(claim.items) > 1 and attempt == MOST_LOSSES - 1:
                deaths += 1
                break
            deaths += 1  # and no commit
        waiting += healthy.do(message)
        # A chunk of healthy images that its third claim split is labelled in its halves.
    done = store.jobs.get(job)
    assert (done.state, done.ok, done.failed) == (JobState.DONE, 7, 1)
    ends = [str(result.error) if result.error else "ok" for result in store.outcomes.results(job)]
    assert ends == ["ok"] * 5 + ["lane_lost"] + ["ok"] * 2
    assert deaths == 3 * MOST_LOSSES + MOST_LOSSES_ALONE, "eight, four, two, one"


def test_lane_that_was_overtaken_drops_its_work(settings: Settings, store: Store, job: str) -> None:
    overtaking = lane(settings, store)
    slow = lane(settings, store)
    inner = slow._commit

    def overtaken(*arguments: object) -> int:
        let_time_pass(store, 2 * settings.lease_s)
        overtaking.do(ChunkMessage(job=job, seq=0))
        return inner(*arguments)  # type: ignore[arg-type]

    slow._commit = overtaken  # type: ignore[method-assign]
    slow.do(ChunkMessage(job=job, seq=0))
    done = store.jobs.get(job)
    assert (done.ok, done.failed, done.pending) == (8, 0, 0)


class Flaky:
    """A ledger whose commits fail a number of times."""

    def __init__(self, store: Store, failures: list[Exception]) -> None:
        self._ledger = store.ledger
        self._failures = failures

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def commit(self, *arguments: object) -> int:
        if self._failures:
            raise self._failures.pop()
        return self._ledger.commit(*arguments)  # type: ignore[arg-type]


def test_commit_waits_for_a_store_that_comes_back(
    settings: Settings, store: Store, job: str
) -> None:
    store.ledger = Flaky(store, [StoreAway("away")] * 4)  # type: ignore[assignment]
    lane(settings, store).do(ChunkMessage(job=job, seq=0))
    assert store.jobs.get(job).ok == 8


@pytest.mark.parametrize("error", [StoreFull("full"), StoreError("schema")])
def test_commit_that_cannot_be_is_raised_and_the_chunk_is_done_by_the_next_lane(
    settings: Settings, store: Store, job: str, error: StoreError
) -> None:
    ledger = store.ledger
    store.ledger = Flaky(store, [error])  # type: ignore[assignment]
    with pytest.raises(StoreError):
        lane(settings, store).do(ChunkMessage(job=job, seq=0))
    store.ledger = ledger
    assert store.jobs.get(job).ok == 0
    let_time_pass(store, 2 * settings.lease_s)
    lane(settings, store).do(ChunkMessage(job=job, seq=0))
    assert store.jobs.get(job).ok == 8


def test_full_database_is_store_full_and_nothing_is_half_written(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'full.db'}")
    store.prepare()
    job = store.jobs.create(source="file:///x", model="m@1", top_k=1)
    pages = store.database.engine.raw_connection()
    count = pages.cursor().execute("PRAGMA page_count").fetchone()[0]
    pages.cursor().execute(f"PRAGMA max_page_count = {count + 2}")
    pages.close()  # back to the pool, with its limit
    items = [Item(n=n, uri=f"file:///{'x' * 500}/{n}", version="1-1") for n in range(500)]
    with pytest.raises(StoreFull, match="no room left for the store"):
        store.ledger.append(job.id, Page(chunks=[items], skipped=[], cursor=None))
    there = store.jobs.get(job.id)
    assert (there.listed, there.chunks, json.dumps(there.state)) == (0, 0, '"listing"')
    store.close()
