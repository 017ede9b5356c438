"""Asking for trainings, watching and cancelling them, with a real broker and no trainer."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from sqlalchemy import update
from support.brokers import valkey
from typer.testing import CliRunner

from tagmill import Client
from tagmill.cli import app
from tagmill.cli.enqueue import nobody_at_work
from tagmill.contract import CONTROL_QUEUE, TRAIN_QUEUE, ListMessage
from tagmill.errors import SourceError, TrainingFailed, UnknownModel, UnknownTraining, UsageError
from tagmill.firing import LabelRequest
from tagmill.settings import Settings, load_settings
from tagmill.state_folder import StateFolder
from tagmill.store import Job, LaneNote, LaneState, Store
from tagmill.store.schedules import ScheduleKind
from tagmill.store.schema import jobs, schedules
from tagmill.tick import tick
from tagmill.train import watch_training
from tagmill.training import TrainingRequest, TrainingResult, TrainingState
from tagmill_worker.listing_lane import GIVE_UP_S, list_job


@pytest.fixture
def client(store_url: str, settings: Settings, tmp_path: Path) -> Iterator[Client]:
    with valkey(tmp_path) as port:
        on_valkey = load_settings(
            store_url=store_url,
            broker_url=f"redis://127.0.0.1:{port}/0",
            state_dir=settings.state_dir,
        )
        with Client(on_valkey) as made:
            yield made


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    made = tmp_path / "pets"
    made.mkdir()
    for n in range(9):
        (made / f"{n}.jpg").write_bytes(b"x" * n)
    return made


def test_training_waits_in_the_store_and_its_message_in_the_broker(
    client: Client, dataset: Path
) -> None:
    training = client.train(dataset, "pets", min_gain=0.01)
    assert client.broker.waiting(TRAIN_QUEUE) == 1
    assert client.train(dataset, "pets", min_gain=0.01).id == training.id, "it has not ended"
    assert client.train(dataset, "pets", min_gain=0.02).id != training.id
    with pytest.raises(UnknownModel):
        client.train(dataset, "a/b")
    with pytest.raises(SourceError):
        client.train(dataset / "nowhere", "pets")
    with pytest.raises(UnknownTraining):
        client.training("tnone")


def test_training_that_nobody_is_at_work_on_was_interrupted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAGMILL_STATE_DIR", str(settings.state_dir))
    folder = StateFolder(settings.state_dir)

    def status() -> str:
        found = CliRunner().invoke(app, ["status"]).stdout
        assert json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)["state"] in found
        return found

    with folder.locked(), closing(Store(settings.store_address)) as store:
        store.prepare()
        request = TrainingRequest(name="pets", dataset="file:///pets")
        claim = store.training_claims.claim(
            store.trainings.create(request).id, lane="lane", lease_s=60
        )
        assert claim is not None
        store.training_claims.renew(claim, lease_s=60, stage="head", done=3, total=300)
        assert "running" in str(CliRunner().invoke(app, ["status", "--json"]).stdout)
        assert "training the head: 3 of 300 epochs" in CliRunner().invoke(app, ["status"]).stdout
    assert "interrupted" in status()
    with Client(settings) as client:
        (left,) = client.store.trainings.recent()
        assert "nobody is at work on it" in (nobody_at_work(client, left) or "")
        assert nobody_at_work(client, client.cancel_training(left.id)) is None


def test_training_of_a_cluster_without_a_lane_that_trains_is_said(
    client: Client, dataset: Path
) -> None:
    training = client.train(dataset, "pets")
    assert "no lane that trains is alive" in (nobody_at_work(client, training) or "")
    note = LaneNote(name="train-cpu0@h", pid=1, device="cpu 0", state=LaneState.IDLE)
    client.store.lanes.note(note, lease_s=60)
    assert nobody_at_work(client, training) is None


def test_watching_ends_with_the_training(client: Client, dataset: Path) -> None:
    training = client.train(dataset, "pets")
    claims = client.store.training_claims
    claim = claims.claim(training.id, lane="lane", lease_s=60)
    assert claim is not None
    states: list[TrainingState] = []

    def show(found: object) -> None:
        states.append(found.state)  # type: ignore[attr-defined]
        if len(states) == 2:
            claims.finish(claim, TrainingResult(said="0.97", fingerprint="f", version=1))

    done = watch_training(client.store, training.id, show, poll_s=0.01)
    assert (done.state, done.version, done.promoted) == (TrainingState.DONE, 1, False)
    other = client.train(dataset, "pets", seed=3)
    cancelled = threading.Timer(0.2, client.cancel_training, [other.id])
    cancelled.start()
    with pytest.raises(TrainingFailed, match="cancelled"):
        watch_training(client.store, other.id, lambda _: None, poll_s=0.01)
    cancelled.join()
    with pytest.raises(UsageError, match="is cancelled already"):
        client.cancel_training(other.id)


def test_tick_sends_again_what_the_broker_lost_and_what_a_lane_left(
    client: Client, dataset: Path
) -> None:
    training = client.train(dataset, "pets")
    assert tick(client.store, client.broker) == 0
    client.store.training_claims.claim(training.id, lane="dies", lease_s=-1)
    assert client.store.trainings.waiting() == []
    with redis.from_url(client.settings.broker_url.get_secret_value()) as server:  # type: ignore[union-attr]
        server.flushall()
    assert tick(client.store, client.broker) == 1
    assert client.broker.waiting(TRAIN_QUEUE) == 1
    assert client.training(training.id).losses == 1
    client.store.training_claims.claim(training.id, lane="dies", lease_s=-1)
    assert tick(client.store, client.broker) == 1, "though a message of another waits"
    assert client.broker.waiting(TRAIN_QUEUE) == 2


def test_tick_does_the_rest_where_a_schedule_is_of_a_newer_release(
    client: Client, dataset: Path
) -> None:
    client.store.schedules.add(
        "newer",
        cron="* * * * *",
        zone="UTC",
        kind=ScheduleKind.TRAIN,
        request='{"new": 1}',
        next_at=1,
    )
    training = client.store.trainings.create(TrainingRequest(name="pets", dataset=str(dataset)))
    assert tick(client.store, client.broker) == 1
    assert client.training(training.id).state is TrainingState.QUEUED


def test_schedule_to_label_is_listed_by_a_lane_and_labels_what_is_new(
    client: Client, dataset: Path
) -> None:
    store = client.store
    request = LabelRequest(source=f"file://{dataset}", model="mobilenet_v2").dump()
    store.schedules.add(
        "nightly", cron="* * * * *", zone="UTC", kind=ScheduleKind.LABEL, request=request, next_at=1
    )
    assert tick(store, client.broker, lambda text: f"{text}@1") == 1
    assert client.broker.waiting(CONTROL_QUEUE) == 1
    (job,) = client.jobs()
    for _ in range(2):  # every message may come twice
        list_job(ListMessage(job=job.id), settings=client.settings, store=store, clock=lambda: 0.0)
    listed = client.job(job.id)
    assert (listed.listed, listed.state) == (9, "running")


def test_listing_that_a_lane_cannot_do_is_left_to_others_and_given_up_after_an_hour(
    client: Client, dataset: Path
) -> None:
    store = client.store
    request = LabelRequest(source=f"file://{dataset}/gone", model="mobilenet_v2").dump()
    store.schedules.add(
        "nightly", cron="* * * * *", zone="UTC", kind=ScheduleKind.LABEL, request=request, next_at=1
    )
    tick(store, client.broker, lambda text: f"{text}@1")
    (job,) = client.jobs()

    def list_it() -> Job:
        list_job(ListMessage(job=job.id), settings=client.settings, store=store, clock=lambda: 0.0)
        return client.job(job.id)

    left = list_it()
    assert (left.state, left.listed) == ("listing", 0)
    assert "cannot be listed: " in (left.paused or "")
    assert "no such file or folder" in (store.schedules.get("nightly").last_said or "")
    assert list_it().paused == left.paused
    gone = dataset / "gone"
    gone.mkdir()
    (gone / "1.jpg").write_bytes(b"x")
    listed = list_it()
    assert (listed.state, listed.listed, listed.paused) == ("running", 1, None)

    shutil.rmtree(gone)
    client.cancel(job.id)
    with store.database.write() as connection:
        connection.execute(update(schedules).values(next_at=1))
    tick(store, client.broker, lambda text: f"{text}@1")
    job = client.newest()
    assert list_it().state == "listing", "the next night's"
    with store.database.write() as connection:
        connection.execute(update(jobs).values(created_at=jobs.c.created_at - 2 * GIVE_UP_S))
    assert list_it().state == "cancelled"
