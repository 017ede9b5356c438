"""Schedules fire exactly once, on every database, whoever looks and however often."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from tagmill.contract import JobState, ListMessage
from tagmill.cron import next_time
from tagmill.errors import ModelAway, UnknownModel, UnknownSchedule, UsageError
from tagmill.firing import LabelRequest, fire, fire_due
from tagmill.store import Schedule, Store
from tagmill.store.schedules import ScheduleKind
from tagmill.store.schema import schedules
from tagmill.training import TrainingRequest, TrainMessage

NIGHTLY = TrainingRequest(name="pets", dataset="file:///pets", skip_unchanged=True)
LABEL = LabelRequest(source="s3://photos/", model="pets", include=("*.png",))
DAY_S = 86_400.0


def add(store: Store, *, start: float, name: str = "nightly", **other: object) -> Schedule:
    values = {"kind": ScheduleKind.TRAIN, "request": NIGHTLY.dump(), **other}
    due = next_time("0 2 * * *", "Europe/Berlin", after=start)
    return store.schedules.add(
        name, cron="0 2 * * *", zone="Europe/Berlin", next_at=due, **values  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def due_at(store: Store) -> float:
    """When the schedule ``nightly`` is due, some time from now."""
    return add(store, start=store.jobs.now()).next_at


def end_all(store: Store) -> None:
    for training in store.trainings.recent(100):
        store.trainings.cancel(training.id)


def test_ten_schedulers_that_look_a_thousand_times_fire_once(
    store: Store, store_url: str, due_at: float
) -> None:
    barrier = threading.Barrier(10)

    def look(_: int) -> list[object]:
        mine = Store(store_url)
        barrier.wait()
        sent = [m for n in range(100) for m in fire_due(mine, str, now=due_at + (n - 50) / 50)]
        mine.close()
        return list(sent)

    with ThreadPoolExecutor(10) as pool:
        sent = [message for found in pool.map(look, range(10)) for message in found]
    (training,) = store.trainings.recent(100)
    assert sent == [TrainMessage(training=training.id)]
    assert (training.schedule, training.request) == ("nightly", NIGHTLY)
    after = store.schedules.get("nightly")
    assert DAY_S - 3600 <= after.next_at - due_at <= DAY_S + 3600
    assert after.last_id == training.id


def test_schedule_that_was_due_often_while_nobody_looked_fires_once(
    store: Store, due_at: float
) -> None:
    assert len(fire_due(store, str, now=due_at + 10.3 * DAY_S)) == 1
    end_all(store)
    assert fire_due(store, str, now=due_at + 10.4 * DAY_S) == []
    assert len(fire_due(store, str, now=due_at + 11.1 * DAY_S)) == 1


def test_schedule_waits_for_what_it_made_before(store: Store, due_at: float) -> None:
    (message,) = fire_due(store, str, now=due_at)
    assert fire_due(store, str, now=due_at + 1.1 * DAY_S) == []
    schedule = store.schedules.get("nightly")
    assert isinstance(message, TrainMessage)
    assert schedule.last_said == f"{message.training}, which it made before, has not ended"
    assert schedule.last_id == message.training
    end_all(store)
    assert len(fire_due(store, str, now=due_at + 2.1 * DAY_S)) == 1
    assert store.schedules.get("nightly").last_said is None


def test_paused_schedule_does_not_fire_and_a_removed_one_is_gone(
    store: Store, due_at: float
) -> None:
    store.schedules.set_paused("nightly", True, next_at=due_at)
    assert fire_due(store, str, now=due_at + 1) == []
    store.schedules.set_paused("nightly", False, next_at=due_at)
    seen = store.schedules.due(due_at + 1)
    store.schedules.set_paused("nightly", True, next_at=due_at)
    assert store.schedules.fire(seen[0], next_at=due_at + 9, make=lambda _: "x") is None
    store.schedules.remove("nightly")
    with pytest.raises(UnknownSchedule):
        store.schedules.get("nightly")
    assert list(store.schedules.all()) == []


def test_schedule_to_label_makes_a_job_that_a_lane_lists(store: Store) -> None:
    due = add(store, start=store.jobs.now(), kind=ScheduleKind.LABEL, request=LABEL.dump())
    (message,) = fire_due(store, lambda name: f"{name}@7", now=due.next_at)
    (job,) = store.jobs.recent()
    assert message == ListMessage(job=job.id)
    assert (job.source, job.model, job.top_k, job.include, job.exclude, job.state) == (
        "s3://photos/", "pets@7", 5, ("*.png",), (), JobState.LISTING,
    )  # fmt: skip
    store.jobs.renew_listing(job.id, -1)
    assert store.jobs.unlisted(600) == [job.id]
    assert store.jobs.unlisted(600) == [], "it is named once in ten minutes"
    store.jobs.renew_listing(job.id, -1)
    store.jobs.cancel(job.id)
    assert store.jobs.unlisted(600) == []


def test_one_schedule_that_cannot_fire_does_not_keep_others_from_it(store: Store) -> None:
    start = store.jobs.now()
    for name in ("a", "b"):
        add(store, start=start, name=name, kind=ScheduleKind.LABEL, request=LABEL.dump())
    last = add(store, start=start, name="c")

    def away(_: str) -> str:
        raise ModelAway("S3 is away")

    assert len(fire_due(store, away, now=last.next_at)) == 1
    assert [due.name for due in store.schedules.due(last.next_at)] == ["a", "b"]

    def unknown(_: str) -> str:
        raise UnknownModel("no model 'pets'")

    assert fire_due(store, unknown, now=last.next_at) == []
    assert {store.schedules.get(name).last_said for name in "ab"} == {"no model 'pets'"}
    assert store.schedules.due(last.next_at) == []


def test_schedule_that_is_fired_by_hand_twice_at_once_fires_once(store: Store) -> None:
    seen = add(store, start=store.jobs.now())
    assert fire(store, seen, str, now=seen.next_at - 60) is not None
    end_all(store)
    assert fire(store, seen, str, now=seen.next_at - 60) is None
    assert store.schedules.get("nightly").last_said is None
    assert len(store.trainings.recent(100)) == 1
    assert fire(store, store.schedules.get("nightly"), str, now=seen.next_at - 60) is not None


@pytest.mark.parametrize("kind", [ScheduleKind.TRAIN, ScheduleKind.LABEL, "unheard"])
def test_schedule_of_a_newer_release_is_left_to_its_lanes(store: Store, kind: ScheduleKind) -> None:
    start = store.jobs.now()
    newer = json.dumps({"name": "pets", "dataset": "x", "source": "x", "model": "m", "new": 1})
    add(store, start=start, name="newer", kind=ScheduleKind.TRAIN, request=newer)
    with store.database.write() as connection:
        connection.execute(update(schedules).values(kind=kind))
    last = add(store, start=start)
    assert len(fire_due(store, str, now=last.next_at)) == 1
    with store.database.read() as connection:
        left = select(schedules.c.next_at, schedules.c.last_said)
        row = connection.execute(left.where(schedules.c.name == "newer")).one()
    assert tuple(row) == (last.next_at, None), "it is due as it was"


def test_two_schedules_of_one_name_cannot_be(store: Store, due_at: float) -> None:
    with pytest.raises(UsageError, match="already"):
        add(store, start=due_at)
    for wrong in ("nosuch", "a\0", ""):
        with pytest.raises(UnknownSchedule):
            store.schedules.get(wrong)
