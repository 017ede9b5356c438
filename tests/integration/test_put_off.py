"""What cannot be read for now is tried once more, later; and a job whose items all fail pauses."""

from __future__ import annotations

import pytest
import sqlalchemy
from support.ledger import MODEL, SUMMARY, claim, ended, items, job_with, let_time_pass, outcomes

from tagmill.contract import (
    NEARLY_ALL_FAILED,
    ChunkState,
    ClaimedChunk,
    ErrorCode,
    JobState,
    Outcome,
)
from tagmill.store import Job, Page, Store
from tagmill.store.jobs import BREAKER_OUTCOMES
from tagmill.store.queued import PUT_OFF_S
from tagmill.store.schema import chunks


def mixed(chunk: ClaimedChunk, *failing: int, code: ErrorCode) -> list[Outcome]:
    """Outcomes of which those of some items failed."""
    both = zip(outcomes(chunk), outcomes(chunk, code), strict=True)
    return [bad if bad.n in failing else good for good, bad in both]


def ends(store: Store, job: Job) -> list[str]:
    return [f"{result.n} {result.error or 'ok'}" for result in store.outcomes.results(job.id)]


def test_items_that_cannot_be_read_for_now_become_a_later_chunk(store: Store) -> None:
    job = job_with(store, 4)
    chunk = claim(store, job)
    assert store.ledger.commit(chunk, mixed(chunk, 1, 3, code=ErrorCode.UNAVAILABLE), SUMMARY) == 2
    now = store.jobs.get(job.id)
    assert (now.state, now.ok, now.failed, now.open) == (JobState.RUNNING, 2, 0, 2)
    assert ends(store, job) == ["0 ok", "2 ok"]
    for look in (store.retries.release_expired, store.retries.queued):
        assert look() == [], "its time has not come"
    assert store.retries.waiting(job.id) == []
    early = store.ledger.claim(job.id, 1, lane="lane", lease_s=60)
    assert early is None
    let_time_pass(store, 1.5 * PUT_OFF_S)
    (named,) = store.retries.release_expired()
    assert named.seq == 1
    again = claim(store, job, 1)
    assert ([item.n for item in again.items], again.was_put_off, again.losses) == ([1, 3], True, 0)


def test_what_still_cannot_be_read_is_recorded(store: Store) -> None:
    job = job_with(store, 2)
    chunk = claim(store, job)
    store.ledger.commit(chunk, outcomes(chunk, ErrorCode.UNAVAILABLE), SUMMARY)
    let_time_pass(store, 1.5 * PUT_OFF_S)
    last = claim(store, job, 1)
    assert store.ledger.commit(last, mixed(last, 1, code=ErrorCode.UNAVAILABLE), SUMMARY) == 0
    assert ends(store, job) == ["0 ok", "1 unavailable"]
    done = store.jobs.get(job.id)
    assert (done.state, done.ok, done.failed, done.pending) == (JobState.DONE, 1, 1, 0)


def test_retry_of_what_was_recorded_is_put_off_once_again(store: Store) -> None:
    job = job_with(store, 1)
    chunk = claim(store, job)
    store.ledger.commit(chunk, outcomes(chunk, ErrorCode.UNAVAILABLE), SUMMARY)
    let_time_pass(store, 1.5 * PUT_OFF_S)
    last = claim(store, job, 1)
    store.ledger.commit(last, outcomes(last, ErrorCode.UNAVAILABLE), SUMMARY)
    assert store.retries.requeue_failed(job.id, chunk_items=8) == 1
    again = claim(store, job, 2)
    assert store.ledger.commit(again, outcomes(again, ErrorCode.UNAVAILABLE), SUMMARY) == 1


def test_halves_of_a_chunk_that_was_put_off_are_its_last_try_too(store: Store) -> None:
    job = job_with(store, 2)
    chunk = claim(store, job)
    store.ledger.commit(chunk, outcomes(chunk, ErrorCode.UNAVAILABLE), SUMMARY)
    let_time_pass(store, 1.5 * PUT_OFF_S)
    for seq in store.losses.split(claim(store, job, 1), lane="lane"):
        assert claim(store, job, seq).was_put_off


def test_put_off_chunk_of_a_job_that_is_released_goes_at_once(store: Store) -> None:
    job = job_with(store, 1)
    chunk = claim(store, job)
    store.ledger.commit(chunk, outcomes(chunk, ErrorCode.UNAVAILABLE), SUMMARY)
    assert [message.seq for message in store.retries.release_all(job.id)] == [1]
    assert claim(store, job, 1).was_put_off


def failing(
    store: Store, *codes: ErrorCode | None, size: int = 50, more: int = 1, breaker: bool = True
) -> Job:
    """A job whose first chunks ended so; more chunks wait."""
    job = store.jobs.create(
        source="file:///x", model=MODEL, top_k=5, breaker=BREAKER_OUTCOMES if breaker else None
    )
    count = len(codes) + more
    pages = [items(size, start * size) for start in range(count)]
    store.ledger.append(job.id, Page(chunks=pages, skipped=[], cursor=None))
    for seq, code in enumerate(codes):
        chunk = claim(store, job, seq)
        store.ledger.commit(chunk, outcomes(chunk, code), SUMMARY)
    return store.jobs.get(job.id)


DENIED, GONE, BAD = ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND, ErrorCode.CORRUPT


def test_job_whose_first_items_fail_pauses_and_says_why(store: Store) -> None:
    assert failing(store, DENIED, DENIED, GONE).paused is None, "too early to tell"
    job = failing(store, DENIED, DENIED, GONE, BAD)
    assert job.paused == (
        f"{NEARLY_ALL_FAILED}, 200 of the first 200: "
        "100 × forbidden (why); 50 × corrupt (why); 50 × not_found (why)"
    )
    assert store.ledger.claim(job.id, 4, lane="lane", lease_s=60) is None


def test_job_that_was_resumed_is_not_paused_again(store: Store) -> None:
    job = failing(store, *[DENIED] * 4, more=2)
    store.jobs.resume(job.id)
    chunk = claim(store, job, 4)
    store.ledger.commit(chunk, outcomes(chunk, DENIED), SUMMARY)
    assert store.jobs.get(job.id).paused is None


@pytest.mark.parametrize(
    ("codes", "more", "breaker"),
    [
        ([None, DENIED, DENIED, DENIED], 1, True),
        ([None, DENIED, DENIED, DENIED, DENIED, DENIED, DENIED, DENIED, DENIED, DENIED], 1, True),
        ([DENIED] * 4, 0, True),
        ([DENIED] * 4, 1, False),
    ],
    ids=["some-work", "some-worked-at-first", "it-is-done-anyway", "told-to-go-on"],
)
def test_job_goes_on(store: Store, codes: list[ErrorCode | None], more: int, breaker: bool) -> None:
    job = failing(store, *codes, more=more, breaker=breaker)
    assert job.paused is None
    assert job.state is (JobState.RUNNING if more else JobState.DONE)


def test_job_that_ends_paused_is_not_paused_any_more(store: Store) -> None:
    """Its last chunks were in hand when it was paused; a retry of it must not wait for ever."""
    job = failing(store, *[DENIED] * 3, more=2)
    in_hand = [claim(store, job, seq) for seq in (3, 4)]
    for chunk in in_hand:
        store.ledger.commit(chunk, outcomes(chunk, DENIED), SUMMARY)
    done = store.jobs.get(job.id)
    assert (done.state, done.failed, done.paused) == (JobState.DONE, 250, None)
    assert store.retries.requeue_failed(job.id, chunk_items=50) == 250
    assert len(claim(store, job, 5).items) == 50


def test_items_that_are_skipped_tell_that_a_job_makes_sense(store: Store) -> None:
    earlier = job_with(store, 50)
    ended(store, earlier)
    job = store.jobs.create(source="file:///x", model=MODEL, top_k=5)
    skipped = [(n, earlier.id, n) for n in range(50)]
    pages = [items(50, start) for start in range(50, 300, 50)]
    store.ledger.append(job.id, Page(chunks=pages, skipped=skipped, cursor=None))
    for seq in range(4):
        ended(store, job, seq, DENIED)
    assert store.jobs.get(job.id).paused is None


def test_job_paused_by_hand_keeps_its_reason(store: Store) -> None:
    job = failing(store, DENIED, DENIED, DENIED, more=2)
    chunk = claim(store, job, 3)
    store.jobs.pause(job.id, "by hand")
    store.ledger.commit(chunk, outcomes(chunk, DENIED), SUMMARY)
    assert store.jobs.get(job.id).paused == "by hand"


def test_state_of_a_chunk_that_is_put_off_is_its_own(store: Store) -> None:
    job = job_with(store, 1)
    chunk = claim(store, job)
    store.ledger.commit(chunk, outcomes(chunk, ErrorCode.UNAVAILABLE), SUMMARY)
    with store.database.read() as connection:
        states = connection.scalars(sqlalchemy.select(chunks.c.state).order_by(chunks.c.seq)).all()
    assert states == [ChunkState.DONE, ChunkState.PUT_OFF]


def test_item_set_apart_from_a_chunk_that_was_put_off_is_on_its_last_try_too(store: Store) -> None:
    job = job_with(store, 3)
    chunk = claim(store, job)
    store.ledger.commit(chunk, outcomes(chunk, ErrorCode.UNAVAILABLE), SUMMARY)
    let_time_pass(store, 1.5 * PUT_OFF_S)
    claim(store, job, 1)
    waiting = store.losses.note(job.id, 1, lane="lane", attempt=1, in_hand=[4, 1], why="killed")
    assert [message.seq for message in waiting] == [2, 3]
    assert all(claim(store, job, seq).was_put_off for seq in (2, 3))
