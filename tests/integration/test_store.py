"""What a store must do, on every database that it may run on."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from support.ledger import MODEL, SUMMARY, claim, ended, items, job_with, outcomes, overtaking

from tagmill.contract import (
    ClaimedChunk,
    ErrorCode,
    Item,
    JobState,
    Status,
)
from tagmill.errors import ClaimLost, StoreError, UnknownJob, UsageError
from tagmill.settings import load_settings
from tagmill.store import Page, Store
from tagmill.store.database import HEAD, migrate
from tagmill.store.schema import metadata


def test_migrations_make_the_schema_that_the_code_uses(store_url: str) -> None:
    store = Store(store_url)
    with store.database.write() as connection:
        migrate(connection)
    assert store.database.revision() == HEAD
    check_schema(store)
    store.close()


def test_new_store_has_the_schema_that_migrations_make(store: Store) -> None:
    assert store.database.revision() == HEAD
    with store.database.write() as connection:
        migrate(connection)  # finds nothing to do
    check_schema(store)


def check_schema(store: Store) -> None:
    found = inspect(store.database.engine)
    assert set(found.get_table_names()) == {*metadata.tables, "alembic_version"}
    for name, table in metadata.tables.items():
        there = {column["name"]: column for column in found.get_columns(name)}
        assert set(there) == {column.name for column in table.columns}, name
        for column in table.columns:
            assert there[column.name]["nullable"] == column.nullable, (name, column.name)
        indexed = {index["name"] for index in found.get_indexes(name)}
        assert indexed == {index.name for index in table.indexes}, name
        keys = found.get_pk_constraint(name)["constrained_columns"]
        assert keys == [column.name for column in table.primary_key], name


def test_preparing_twice_changes_nothing(store: Store) -> None:
    job = job_with(store, 1)
    store.prepare()
    assert store.jobs.get(job.id) == job


def test_store_of_a_newer_release_is_refused(store: Store) -> None:
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=f"has schema 9999, this release works with {HEAD}"):
        store.prepare()


def test_job_is_found_by_what_its_id_begins_with(store: Store) -> None:
    job = job_with(store, 1)
    other = job_with(store, 1)
    assert store.jobs.get(job.id[:-1] if job.id[:-1] != other.id[:-1] else job.id) == job
    assert {found.id for found in store.jobs.recent()} == {job.id, other.id}
    for wrong in ("", "nosuch", job.id[:3], "%", "\udcff", "a\0"):
        with pytest.raises(UnknownJob):
            store.jobs.get(wrong)


def test_job_runs_from_listing_to_done(store: Store) -> None:
    job = store.jobs.create(source="file:///x", model=MODEL, top_k=5)
    assert job.state is JobState.LISTING
    store.ledger.append(job.id, Page(chunks=[items(2)], skipped=[], cursor="2"))
    first = claim(store, job)
    store.ledger.commit(first, outcomes(first), SUMMARY)
    assert store.jobs.get(job.id).state is JobState.LISTING, "its listing goes on"
    seqs = store.ledger.append(
        job.id, Page(chunks=[items(3, 2)], skipped=[], cursor=None, after="2")
    )
    assert list(seqs) == [1]
    assert store.jobs.get(job.id).state is JobState.RUNNING
    second = claim(store, job, 1)
    store.ledger.commit(second, outcomes(second, ErrorCode.CORRUPT), SUMMARY)
    done = store.jobs.get(job.id)
    assert (done.state, done.listed, done.ok, done.failed, done.open, done.pending) == (
        JobState.DONE, 5, 2, 3, 0, 0,
    )  # fmt: skip
    assert done.finished_at is not None
    assert store.outcomes.failures(job.id) == {ErrorCode.CORRUPT: 3}


def test_job_without_chunks_is_done_with_its_listing(store: Store) -> None:
    assert job_with(store).state is JobState.DONE


def test_chunk_is_claimed_by_one_lane_however_many_ask(store: Store) -> None:
    job = job_with(store, 4)
    barrier = threading.Barrier(6)

    def ask(lane: int) -> ClaimedChunk | None:
        barrier.wait()
        return store.ledger.claim(job.id, 0, lane=str(lane), lease_s=60)

    with ThreadPoolExecutor(6) as pool:
        claims = [found for found in pool.map(ask, range(6)) if found]
    assert [found.attempt for found in claims] == [1]
    assert claims[0].items == tuple(items(4))


def test_claim_that_was_overtaken_cannot_commit(store: Store) -> None:
    job = job_with(store, 2)
    late = claim(store, job)
    assert store.ledger.claim(job.id, 0, lane="b", lease_s=60) is None
    newer = overtaking(store, job)
    assert newer.attempt == 2
    with pytest.raises(ClaimLost):
        store.ledger.commit(late, outcomes(late, ErrorCode.CORRUPT), SUMMARY)
    store.ledger.commit(newer, outcomes(newer), SUMMARY)
    with pytest.raises(ClaimLost):
        store.ledger.commit(newer, outcomes(newer), SUMMARY)
    done = store.jobs.get(job.id)
    assert (done.ok, done.failed, done.pending) == (2, 0, 0)
    assert [result.status for result in store.outcomes.results(job.id)] == [Status.OK] * 2


def test_lease_that_ran_out_frees_the_chunk(store: Store) -> None:
    job = job_with(store, 1)
    first = store.ledger.claim(job.id, 0, lane="a", lease_s=-1)
    assert first is not None
    assert claim(store, job).attempt == 2


def test_done_and_cancelled_chunks_are_not_to_be_had(store: Store) -> None:
    job = job_with(store, 1, 1)
    first = claim(store, job, 0)
    store.ledger.commit(first, outcomes(first), SUMMARY)
    assert store.ledger.claim(job.id, 0, lane="a", lease_s=9) is None
    assert store.jobs.cancel(job.id)
    assert not store.jobs.cancel(job.id)
    assert store.ledger.claim(job.id, 1, lane="a", lease_s=9) is None
    assert store.ledger.claim("nosuch", 0, lane="a", lease_s=9) is None
    assert store.ledger.append(job.id, Page(chunks=[items(1)], skipped=[], cursor="x")) is None


def test_outcomes_that_are_not_the_chunks_are_refused(store: Store) -> None:
    job = job_with(store, 3)
    chunk = claim(store, job)
    for wrong in (outcomes(chunk)[:2], outcomes(chunk) + outcomes(chunk)[:1]):
        with pytest.raises(ValueError, match="3 items"):
            store.ledger.commit(chunk, wrong, SUMMARY)
    assert not list(store.outcomes.results(job.id))


def test_known_are_items_of_the_same_version_model_and_top_k(store: Store) -> None:
    job = job_with(store, 2)
    chunk = claim(store, job)
    store.ledger.commit(chunk, outcomes(chunk), SUMMARY)
    asked = {"file:///0.jpg": "1-2", "file:///1.jpg": "9-9", "file:///2.jpg": "1-2"}

    def known(model: str = MODEL, top_k: int = 5, since: float = 0.0) -> set[str]:
        return set(store.outcomes.known(asked, model=model, top_k=top_k, since=since))

    assert known() == {"file:///0.jpg"}
    assert known(model="m@2") == known(top_k=1) == known(since=1e12) == set()
    assert store.outcomes.any_of(model=MODEL, top_k=5)
    assert not store.outcomes.any_of(model="m@2", top_k=5)


def test_failures_in_the_bytes_are_known_and_others_are_not(store: Store) -> None:
    job = job_with(store, 1, 1)
    for seq, error in ((0, ErrorCode.CORRUPT), (1, ErrorCode.FORBIDDEN)):
        chunk = claim(store, job, seq)
        store.ledger.commit(chunk, outcomes(chunk, error), SUMMARY)
    asked = {"file:///0.jpg": "1-2", "file:///1.jpg": "1-2"}
    assert set(store.outcomes.known(asked, model=MODEL, top_k=5, since=0)) == {"file:///0.jpg"}


def test_of_several_outcomes_the_newest_is_known(store: Store) -> None:
    for error in (None, ErrorCode.CORRUPT, None):
        newest = job_with(store, 1)
        ended(store, newest, error=error)
        known = store.outcomes.known({"file:///0.jpg": "1-2"}, model=MODEL, top_k=5, since=0)
        assert known["file:///0.jpg"].job == newest.id


def test_two_that_come_first_at_once_make_one_schema(store_url: str) -> None:
    stores = [Store(store_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Store.prepare, stores))
    assert [store.database.revision() for store in stores] == [HEAD] * 4
    for store in stores:
        store.close()


def test_results_hold_skipped_items_in_listing_order(store: Store) -> None:
    first = job_with(store, 2)
    chunk = claim(store, first)
    store.ledger.commit(chunk, outcomes(chunk), SUMMARY)
    second = store.jobs.create(source="file:///x", model=MODEL, top_k=5)
    fresh = [Item(n=1, uri="file:///new.jpg", version="1-2")]
    store.ledger.append(
        second.id,
        Page(chunks=[fresh], skipped=[(0, first.id, 0), (2, first.id, 1)], cursor=None),
    )
    chunk = claim(store, second)
    store.ledger.commit(chunk, outcomes(chunk), SUMMARY)
    results = list(store.outcomes.results(second.id))
    assert [(result.n, result.uri) for result in results] == [
        (0, "file:///0.jpg"), (1, "file:///new.jpg"), (2, "file:///1.jpg"),
    ]  # fmt: skip
    assert {result.job for result in results} == {second.id}
    assert results[0].labels[0].name == 'Ä cat, "quoted"'
    done = store.jobs.get(second.id)
    assert (done.listed, done.skipped, done.ok, done.open) == (3, 2, 1, 0)


def test_many_lanes_at_once_count_right(store: Store) -> None:
    job = job_with(store, *[3] * 40)

    def work(lane: int) -> None:
        for seq in range(40):
            found = store.ledger.claim(job.id, (seq + lane * 10) % 40, lane=str(lane), lease_s=60)
            if found:
                store.ledger.commit(found, outcomes(found), SUMMARY)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    done = store.jobs.get(job.id)
    assert (done.state, done.ok, done.pending) == (JobState.DONE, 120, 0)
    assert len(store.jobs.summaries(job.id)) == 40
    assert [result.n for result in store.outcomes.results(job.id)] == list(range(120))


def test_a_store_that_is_not_there_is_said_without_its_password() -> None:
    with pytest.raises(StoreError) as caught:
        Store("postgresql+psycopg://user:hush@127.0.0.1:1/none").prepare()
    assert "hush" not in str(caught.value)
    with pytest.raises(StoreError, match="cannot be used"):
        Store("nosuch://x")


@pytest.mark.parametrize(
    "url", ["mysql://u:hush@h/x", "sqlite://", "nonsense", "sqlite:///", "http://h", "sqlite:rel"]
)
def test_url_that_names_no_store_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(UsageError, match="TAGMILL_STORE_URL") as refused:
        load_settings(store_url=url)
    assert "hush" not in str(refused.value)


def test_url_of_a_store_is_the_same_from_everywhere(tmp_path: Path) -> None:
    assert load_settings(store_url="sqlite:////a%20b/c.db").store_address == "sqlite:////a%20b/c.db"
    relative = load_settings(store_url="sqlite:///x.db").store_address
    assert relative == f"sqlite:///{Path('x.db').absolute()}"
    for short in ("postgresql", "postgres"):
        address = load_settings(store_url=f"{short}://u@h/d").store_address
        assert address == "postgresql+psycopg://u@h/d"


def test_secrets_in_a_url_are_not_shown() -> None:
    for url in (
        "postgresql+psycopg://u:hush@127.0.0.1:1/d",
        "postgresql+psycopg://127.0.0.1:1/d?password=hush",
    ):
        store = Store(url)
        assert "hush" not in store.database.name
        with pytest.raises(StoreError) as away:
            store.prepare()
        assert "hush" not in str(away.value)
    with pytest.raises(StoreError) as refused:
        Store("postgresql+psycopg://u:hush@h:port/d")
    assert "hush" not in str(refused.value)


def test_transaction_that_is_left_open_for_long_does_not_block_a_postgresql(
    postgres_url: str,
) -> None:
    with contextlib.closing(Store(postgres_url)) as store, store.database.read() as connection:
        found = connection.scalar(text("SHOW idle_in_transaction_session_timeout"))
        assert found == "30s"
