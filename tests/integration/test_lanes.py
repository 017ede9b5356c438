"""Lanes that say they live, and the leases that they renew, on every database."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from support.ledger import SUMMARY, claim, job_with, let_time_pass, outcomes, overtaking
from support.polling import until

from tagmill.errors import ClaimLost, StoreError
from tagmill.store import LaneNote, LaneState, Store
from tagmill_worker.heartbeat import STALLED_S, Heartbeat


def note(pid: int = 1, **values: object) -> LaneNote:
    given = {"name": "label-cpu0@host", "device": "cpu 0", "state": LaneState.IDLE, **values}
    return LaneNote(pid=pid, **given)  # type: ignore[arg-type]


def test_lane_is_listed_while_it_is_seen(store: Store) -> None:
    store.lanes.note(note(done=7, rate=12.5, model="m@1"), lease_s=60)
    store.lanes.note(note(name="label-cpu1@host"), lease_s=60)
    first, second = store.lanes.alive(within_s=30)
    assert (first.name, first.done, first.rate, first.model) == ("label-cpu0@host", 7, 12.5, "m@1")
    assert second.name == "label-cpu1@host"
    assert 0 <= first.seen_s_ago < 30
    with store.database.write() as connection:
        connection.execute(text("UPDATE lanes SET seen_at = seen_at - 31 WHERE done = 7"))
    assert [lane.name for lane in store.lanes.alive(within_s=30)] == ["label-cpu1@host"]
    store.lanes.leave("label-cpu1@host", pid=1)
    assert store.lanes.alive(within_s=30) == []


def test_lane_of_the_same_name_in_a_new_process_begins_anew(store: Store) -> None:
    store.lanes.note(note(), lease_s=60)
    with store.database.write() as connection:
        connection.execute(text("UPDATE lanes SET started_at = 5"))
    store.lanes.note(note(), lease_s=60)
    assert store.lanes.alive(within_s=30)[0].started_at == 5
    store.lanes.note(note(pid=2), lease_s=60)
    assert store.lanes.alive(within_s=30)[0].started_at > 5
    store.lanes.leave("label-cpu0@host", pid=1)  # the late word of the process before
    assert store.lanes.alive(within_s=30)


def test_lane_that_is_long_gone_is_forgotten(store: Store) -> None:
    store.lanes.note(note(), lease_s=60)
    store.lanes.forget_gone()
    assert store.lanes.alive(within_s=30)
    with store.database.write() as connection:
        connection.execute(text("UPDATE lanes SET seen_at = 0"))
    store.lanes.forget_gone()
    assert store.lanes.alive(within_s=1e12) == []


def test_lease_is_renewed_while_the_claim_holds_and_not_after(store: Store) -> None:
    job = job_with(store, 2, 2)
    held = store.ledger.claim(job.id, 0, lane="a", lease_s=-1)
    assert held is not None
    assert store.lanes.note(note(), claim=held, lease_s=60)
    assert store.ledger.claim(job.id, 0, lane="b", lease_s=60) is None
    newer = overtaking(store, job)
    assert not store.lanes.note(note(), claim=held, lease_s=60)
    store.ledger.commit(newer, outcomes(newer), SUMMARY)
    assert not store.lanes.note(note(), claim=newer, lease_s=60)


def test_lane_that_the_tick_took_for_lost_has_its_chunk_until_another_claims_it(
    store: Store,
) -> None:
    """A store that was away for longer than the lease: the tick is there before the lanes are."""
    job = job_with(store, 2, 2)
    first, second = claim(store, job, 0), claim(store, job, 1)
    let_time_pass(store, 120)
    assert len(store.retries.release_expired()) == 2
    store.ledger.commit(first, outcomes(first), SUMMARY)
    assert store.lanes.note(note(), claim=second, lease_s=60)
    assert store.ledger.claim(job.id, 1, lane="b", lease_s=60) is None
    assert [message.seq for message in store.retries.queued()] == []
    assert overtaking(store, job, 1).losses == 1, "the renewal took the first one back"
    assert not store.lanes.note(note(), claim=second, lease_s=60)
    with pytest.raises(ClaimLost):
        store.ledger.commit(second, outcomes(second), SUMMARY)


def test_claim_that_was_given_back_is_over(store: Store) -> None:
    job = job_with(store, 2)
    for give_back in (store.ledger.release, lambda _: store.retries.release_all(job.id)):
        held = claim(store, job)
        give_back(held)
        assert not store.lanes.note(note(), claim=held, lease_s=60), "a late beat"
        with pytest.raises(ClaimLost):
            store.ledger.commit(held, outcomes(held), SUMMARY)
        assert [message.seq for message in store.retries.queued()] == [0]


def test_heart_beats_by_itself_and_renews_the_lease(store: Store) -> None:
    job = job_with(store, 2)
    heartbeat = Heartbeat(note(), store=store, lease_s=0.4)
    heartbeat.start()
    held = store.ledger.claim(job.id, 0, lane="a", lease_s=-1)
    assert held is not None
    heartbeat.took(held)
    until(lambda: not store.retries.waiting(job.id))
    (lane,) = store.lanes.alive(within_s=30)
    until(lambda: store.lanes.alive(within_s=30)[0].state is LaneState.LABELLING)
    heartbeat.ended(2)
    until(lambda: store.lanes.alive(within_s=30)[0].done == 2)
    heartbeat.stop()
    assert store.lanes.alive(within_s=30) == []
    assert lane.name == "label-cpu0@host"


def test_lane_is_alive_while_it_gets_on_or_waits_and_store_troubles_do_not_stop_its_heart(
    store: Store,
) -> None:
    now = [0.0]
    beats = [0]

    def alive() -> None:
        beats[0] += 1

    heartbeat = Heartbeat(note(), store=store, lease_s=60, alive=alive, clock=lambda: now[0])
    now[0] += 10 * STALLED_S
    heartbeat.beat()
    assert beats[0] == 1, "it waits for work"
    heartbeat.took(claim(store, job_with(store, 1)))
    heartbeat.beat()
    now[0] += STALLED_S
    heartbeat.beat()
    assert beats[0] == 2, "it has a chunk in hand and does not get on"
    heartbeat.moved()
    heartbeat.beat()
    assert beats[0] == 3

    class Away:
        def note(self, *_: object, **__: object) -> bool:
            raise StoreError("away")

    store.lanes = Away()  # type: ignore[assignment]
    heartbeat.beat()
    assert beats[0] == 4


def test_rate_is_that_of_a_lane_at_work(store: Store) -> None:
    now = [0.0]
    heartbeat = Heartbeat(note(), store=store, lease_s=60, clock=lambda: now[0])
    now[0] = 1000.0  # a long wait for work
    job = job_with(store, 100, 100)
    for seq in range(2):
        heartbeat.took(claim(store, job, seq))
        now[0] += 2.0
        heartbeat.ended(100)
    heartbeat.beat()
    assert store.lanes.alive(within_s=30)[0].rate == 50.0
