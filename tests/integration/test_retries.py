"""Chunks that are done once more, on every database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from support.ledger import SUMMARY, claim, ended, items, job_with, outcomes, overtaking

from tagmill.contract import ErrorCode, JobState
from tagmill.errors import ClaimLost
from tagmill.store import Page, Store


def test_released_chunks_are_named_and_can_be_claimed(store: Store) -> None:
    job = job_with(store, 1, 1, 1)
    done = claim(store, job, 0)
    store.ledger.commit(done, outcomes(done), SUMMARY)
    held = claim(store, job, 1)
    assert [message.seq for message in store.retries.release_all(job.id)] == [1, 2]
    with pytest.raises(ClaimLost):
        store.ledger.commit(held, outcomes(held), SUMMARY)
    assert claim(store, job, 1).attempt == 3, "the claim that was given back is over"


def test_failed_items_are_queued_again_and_have_no_outcome_until_redone(store: Store) -> None:
    job = job_with(store, 3, 2)
    for seq, error in ((0, ErrorCode.FORBIDDEN), (1, None)):
        chunk = claim(store, job, seq)
        store.ledger.commit(chunk, outcomes(chunk, error), SUMMARY)
    assert store.retries.requeue_failed(job.id, chunk_items=2) == 3
    again = store.jobs.get(job.id)
    assert (again.state, again.ok, again.failed, again.open) == (JobState.RUNNING, 2, 0, 3)
    for seq in (2, 3):
        chunk = claim(store, job, seq)
        store.ledger.commit(chunk, outcomes(chunk), SUMMARY)
    done = store.jobs.get(job.id)
    assert (done.state, done.ok, done.failed, done.listed) == (JobState.DONE, 5, 0, 5)
    assert [result.n for result in store.outcomes.results(job.id)] == [0, 1, 2, 3, 4]
    assert store.retries.requeue_failed(job.id, chunk_items=2) == 0


def test_outcomes_stand_until_they_are_redone(store: Store) -> None:
    first = job_with(store, 2)
    ended(store, first, error=ErrorCode.CORRUPT)
    second = store.jobs.create(source="file:///x", model="m@1", top_k=5)
    taken_over = [(0, first.id, 0), (1, first.id, 1)]
    store.ledger.append(second.id, Page(chunks=[], skipped=taken_over, cursor=None))
    store.retries.requeue_failed(first.id, chunk_items=2)
    for job in (first, second):
        assert len(list(store.outcomes.results(job.id))) == 2


def test_items_that_are_queued_again_already_are_not_queued_twice(store: Store) -> None:
    job = job_with(store, 3)
    ended(store, job, error=ErrorCode.FORBIDDEN)
    assert store.retries.requeue_failed(job.id, chunk_items=3) == 3
    assert store.retries.requeue_failed(job.id, chunk_items=3) == 0
    ended(store, job, 1)
    done = store.jobs.get(job.id)
    assert (done.state, done.ok, done.failed, done.open) == (JobState.DONE, 3, 0, 0)


def test_failures_taken_over_from_earlier_jobs_are_queued_too(store: Store) -> None:
    first = job_with(store, 2)
    ended(store, first, error=ErrorCode.CORRUPT)
    second = store.jobs.create(source="file:///x", model="m@1", top_k=5)
    page = Page(chunks=[items(1, 2)], skipped=[(0, first.id, 0), (1, first.id, 1)], cursor=None)
    store.ledger.append(second.id, page)
    ended(store, second)
    assert store.outcomes.failures(second.id) == {ErrorCode.CORRUPT: 2}
    assert store.retries.requeue_failed(second.id, chunk_items=9) == 2
    again = store.jobs.get(second.id)
    assert (again.listed, again.skipped, again.ok, again.open) == (3, 0, 1, 2)
    ended(store, second, 1)
    done = store.jobs.get(second.id)
    assert (done.state, done.ok, done.failed, done.open) == (JobState.DONE, 3, 0, 0)
    assert [result.n for result in store.outcomes.results(second.id)] == [0, 1, 2]
    assert store.outcomes.failures(second.id) == {}
    assert store.outcomes.failures(first.id) == {ErrorCode.CORRUPT: 2}


def test_jobs_that_are_listing_or_cancelled_are_left_alone(store: Store) -> None:
    listing = store.jobs.create(source="file:///x", model="m@1", top_k=5)
    store.ledger.append(listing.id, Page(chunks=[items(1)], skipped=[], cursor="1"))
    cancelled = job_with(store, 1, 1)
    for job in (listing, cancelled):
        ended(store, job, error=ErrorCode.FORBIDDEN)
    store.jobs.cancel(cancelled.id)
    for job in (listing, cancelled):
        before = store.jobs.get(job.id)
        assert store.retries.requeue_failed(job.id, chunk_items=1) == 0
        assert store.jobs.get(job.id) == before


def test_only_claims_that_ended_without_a_word_are_losses(store: Store) -> None:
    job = job_with(store, 1)
    assert claim(store, job).losses == 0
    assert overtaking(store, job).losses == 1
    store.retries.release_all(job.id)
    released = claim(store, job)
    assert (released.losses, released.attempt) == (0, 4)


def test_waiting_are_chunks_that_are_queued_or_whose_lease_ran_out(store: Store) -> None:
    job = job_with(store, 1, 1, 1, 1)
    ended(store, job, 0)
    claim(store, job, 1)
    store.ledger.claim(job.id, 2, lane="hangs", lease_s=-1)
    assert [message.seq for message in store.retries.waiting(job.id)] == [2, 3]


def test_retrying_at_once_queues_every_failed_item_once(store: Store) -> None:
    job = job_with(store, 30, 30)
    for seq in (0, 1):
        ended(store, job, seq, ErrorCode.FORBIDDEN)
    with ThreadPoolExecutor(4) as pool:
        counts = list(
            pool.map(lambda _: store.retries.requeue_failed(job.id, chunk_items=8), range(4))
        )
    assert sorted(counts) == [0, 0, 0, 60]
    again = store.jobs.get(job.id)
    assert (again.failed, again.open, again.pending) == (0, 60, 8)


def test_chunk_that_waits_for_long_is_named_again_though_others_wait_too(store: Store) -> None:
    job = job_with(store, 1, 1)
    assert store.retries.release_expired() == []
    with store.database.write() as connection:
        connection.execute(text("UPDATE chunks SET lease_until = lease_until - 601 WHERE seq = 1"))
    assert [message.seq for message in store.retries.release_expired()] == [1]
    assert store.retries.release_expired() == []
    assert claim(store, job, 1).losses == 0, "nobody had it"


def test_released_chunk_is_as_it_was(store: Store) -> None:
    job = job_with(store, 1)
    store.ledger.release(claim(store, job))
    again = claim(store, job)
    assert (again.losses, again.attempt) == (0, 3)
