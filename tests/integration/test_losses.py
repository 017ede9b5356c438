"""Chunks whose lane was lost, and the item that ends them all."""

from __future__ import annotations

import pytest
from support.ledger import SUMMARY, claim, job_with, let_time_pass, outcomes, overtaking

from tagmill.contract import ChunkMessage, ErrorCode, JobState, Priority
from tagmill.errors import ClaimLost
from tagmill.store import Job, Store
from tagmill.store.losses import MOST_LOSSES, MOST_LOSSES_ALONE, is_given_up

WHY = "killed by SIGABRT"


def lost(store: Store, job: Job, seq: int, *in_hand: int, attempt: int = 1) -> list[int]:
    waiting = store.losses.note(job.id, seq, lane="lane", attempt=attempt, in_hand=in_hand, why=WHY)
    return [message.seq for message in waiting]


def ends(store: Store, job: Job) -> list[str]:
    found = store.outcomes.results(job.id)
    return [f"{result.n} {result.error or 'ok'}" for result in found]


def end(store: Store, job: Job, seq: int) -> None:
    chunk = claim(store, job, seq)
    store.ledger.commit(chunk, outcomes(chunk), SUMMARY)


def test_item_in_hand_goes_into_a_chunk_of_its_own_and_the_rest_goes_on(store: Store) -> None:
    job = job_with(store, 4)
    claim(store, job)
    assert lost(store, job, 0, 2) == [1, 2]
    rest, alone = claim(store, job, 1), claim(store, job, 2)
    assert [[item.n for item in chunk.items] for chunk in (rest, alone)] == [[0, 1, 3], [2]]
    assert (rest.losses, alone.losses) == (0, 1)
    now = store.jobs.get(job.id)
    assert (now.chunks, now.pending, now.open) == (3, 2, 4)


def test_item_that_loses_its_lane_alone_too_is_an_outcome_that_says_why(store: Store) -> None:
    job = job_with(store, 2)
    claim(store, job)
    rest, alone = lost(store, job, 0, 1)
    end(store, job, rest)
    for _ in range(1, MOST_LOSSES_ALONE):
        held = claim(store, job, alone)
        assert not is_given_up(held)
        assert lost(store, job, alone, 1, attempt=held.attempt) == []
    assert ends(store, job) == ["0 ok", "1 lane_lost"]
    (failed,) = [result for result in store.outcomes.results(job.id) if result.error]
    assert failed.message == f"the lane died on this image {MOST_LOSSES_ALONE} times: {WHY}"
    done = store.jobs.get(job.id)
    assert (done.state, done.ok, done.failed, done.pending) == (JobState.DONE, 1, 1, 0)


def test_lane_lost_with_nothing_in_hand_costs_a_try_and_then_the_chunk_is_halved(
    store: Store,
) -> None:
    job = job_with(store, 5)
    for _ in range(MOST_LOSSES):
        held = claim(store, job)
        assert not is_given_up(held)
        assert lost(store, job, 0, attempt=held.attempt) == []
    given_up = claim(store, job)
    assert is_given_up(given_up)
    assert list(store.losses.split(given_up, lane="lane")) == [1, 2]


@pytest.mark.parametrize("in_hand", [(7,), (0, 1, 2)])
def test_items_in_hand_that_are_none_or_all_of_the_chunk_tell_nothing(
    store: Store, in_hand: tuple[int, ...]
) -> None:
    job = job_with(store, 3)
    claim(store, job)
    assert lost(store, job, 0, *in_hand) == []
    assert claim(store, job).losses == 1


def test_note_of_a_claim_that_is_over_changes_nothing(store: Store) -> None:
    job = job_with(store, 3)
    claim(store, job)
    overtaking(store, job)
    assert lost(store, job, 0, 1, attempt=1) == []
    assert lost(store, job, 9, 1) == []
    end_of_second = overtaking(store, job)
    store.ledger.commit(end_of_second, outcomes(end_of_second), SUMMARY)
    assert lost(store, job, 0, 1, attempt=3) == []
    assert ends(store, job) == ["0 ok", "1 ok", "2 ok"]


def test_lane_that_was_found_missing_and_then_dead_is_one_loss(store: Store) -> None:
    job = job_with(store, 3)
    claim(store, job)
    let_time_pass(store, 120)
    store.retries.release_expired()
    assert lost(store, job, 0) == []
    assert claim(store, job).losses == 1


def test_late_commit_of_a_lane_that_was_taken_for_lost_is_refused(store: Store) -> None:
    job = job_with(store, 2)
    late = claim(store, job)
    lost(store, job, 0, 1)
    with pytest.raises(ClaimLost):
        store.ledger.commit(late, outcomes(late), SUMMARY)
    assert ends(store, job) == []


def test_what_waits_is_told_with_its_jobs_priority(store: Store) -> None:
    job = job_with(store, 2)
    store.jobs.follow(job.id, follow_s=None, priority=Priority.HIGH)
    claim(store, job)
    rest, alone = store.losses.note(job.id, 0, lane="lane", attempt=1, in_hand=[1], why=WHY)
    assert rest == ChunkMessage(job=job.id, seq=1, priority=Priority.HIGH)
    assert alone == ChunkMessage(job=job.id, seq=2, priority=Priority.HIGH)


def test_chunk_of_one_item_that_was_lost_without_a_word_is_an_outcome(store: Store) -> None:
    job = job_with(store, 1)
    assert list(store.losses.split(claim(store, job), lane="lane")) == []
    assert ends(store, job) == [f"0 {ErrorCode.LANE_LOST}"]


def test_split_halves_take_the_chunks_place_down_to_lane_lost(store: Store) -> None:
    job = job_with(store, 3)
    halves = store.losses.split(claim(store, job), lane="lane")
    assert list(halves) == [1, 2]
    one = claim(store, job, 1)
    two = claim(store, job, 2)
    assert [item.n for item in one.items + two.items] == [0, 1, 2]
    assert list(store.losses.split(one, lane="lane")) == []
    store.ledger.commit(two, outcomes(two), SUMMARY)
    done = store.jobs.get(job.id)
    assert (done.state, done.listed, done.ok, done.failed) == (JobState.DONE, 3, 2, 1)
    lost = next(iter(store.outcomes.results(job.id)))
    assert (lost.n, lost.error) == (0, ErrorCode.LANE_LOST)
