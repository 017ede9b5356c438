"""The train queue as a user meets it, with a trainer that trains nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.brokers import RABBIT, rabbitmq, valkey
from support.command import Tagmill
from support.polling import until
from support.worker import Worker

from tagmill.store import Store

TESTS = Path(__file__).parents[1]


@pytest.fixture
def trainable(cluster: Tagmill, models: Path, tmp_path: Path) -> Tagmill:
    """The command with the fake trainer, a registry of its own and a dataset."""
    registry = tmp_path / "registry"
    shutil.copytree(models, registry)
    (cluster.home / "pets").mkdir()
    cluster.environment |= {
        "TAGMILL_MODELS": str(registry),
        "PYTHONPATH": os.pathsep.join([str(TESTS / "support" / "fake_trainer"), str(TESTS)]),
        "FAKE_TRAINER": str(tmp_path / "steps"),
        "FAKE_STEPS": "3",
    }
    return cluster


@pytest.fixture
def with_store(trainable: Tagmill, postgres_url: str) -> Tagmill:
    trainable.environment |= {
        "TAGMILL_STORE_URL": postgres_url,
        "TAGMILL_LEASE_S": "3",
        "TAGMILL_ITEM_TIMEOUT_S": "2",
    }
    return trainable


@pytest.fixture
def on_cluster(with_store: Tagmill, tmp_path: Path) -> Iterator[Tagmill]:
    """A cluster of a Valkey and a PostgreSQL."""
    with valkey(tmp_path) as port:
        with_store.environment |= {"TAGMILL_BROKER_URL": f"redis://127.0.0.1:{port}/0"}
        yield with_store


@pytest.fixture
def on_rabbit(with_store: Tagmill) -> Iterator[Tagmill]:
    """A cluster of a RabbitMQ and a PostgreSQL."""
    with rabbitmq() as settings:
        with_store.environment |= {
            "TAGMILL_BROKER_URL": RABBIT,
            "TAGMILL_NAMESPACE": settings.namespace,
        }
        yield with_store


@pytest.fixture(params=["on_cluster", "on_rabbit"])
def any_cluster(request: pytest.FixtureRequest) -> Tagmill:
    made: Tagmill = request.getfixturevalue(request.param)
    return made


def training(command: Tagmill, training_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("status", training_id, "--json").stdout)
    return found


def test_training_on_one_machine_promotes_and_the_next_one_compares(trainable: Tagmill) -> None:
    first = trainable("train", "pets", "--name", "pets")
    assert "pets@1, promoted in" in first.stderr
    assert "accuracy 0.91\ndataset: 0 images of newts\n" in first.stderr
    assert "dataset: 9 images of newts\ndataset: 2 more findings, see the report\n" in first.stderr
    assert "\nreport: /tmp/report.html\n" in first.stderr
    (listed,) = trainable("status", "--json").stdout.splitlines()
    shown = trainable("status", json.loads(listed)["id"]).stdout
    assert "dataset: 0 images of newts\n" in shown
    second = trainable("train", "pets", "--name", "pets")
    assert "pets@2, promoted in" in second.stderr
    assert "pets@2  2 classes, 224 px, center_crop, champion" in trainable("models", "list").stdout
    wrong = trainable("train", "pets", "--name", "pets", "--seed", "13", code=3)
    assert "one class only: cats" in wrong.stderr
    assert "pets@2, promoted" in trainable("status").stdout


def test_interrupted_training_goes_on_where_it_was(trainable: Tagmill, tmp_path: Path) -> None:
    started = trainable.start("train", "pets", "--name", "pets", FAKE_STEPS="400")
    steps = tmp_path / "steps"
    until(lambda: steps.exists() and steps.stat().st_size > 3)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130, said
    assert "the same command goes on" in said
    done = steps.stat().st_size
    gone_on = trainable("train", "pets", "--name", "pets", FAKE_STEPS=str(done + 2))
    assert "going on with training t" in gone_on.stderr
    assert "pets@1, promoted in" in gone_on.stderr


def test_training_on_a_cluster_survives_its_lane_and_a_stopped_worker(
    any_cluster: Tagmill, tmp_path: Path
) -> None:
    on_cluster = any_cluster
    steps = tmp_path / "steps"
    scheduler = on_cluster.start("scheduler", "--every", "0.3")
    try:
        with Worker(on_cluster, "--queues", "train", FAKE_STEPS="90") as worker:
            (lane,) = worker.await_lanes(1)
            asked = on_cluster("train", "pets", "--name", "pets", "--enqueue")
            training_id = asked.stdout.strip()
            until(lambda: steps.exists() and steps.stat().st_size > 3)
            (trainer,) = lane.children()
            trainer.kill()
            before = steps.stat().st_size
            until(lambda: steps.stat().st_size > before + 3)
            assert training(on_cluster, training_id)["losses"] == 1
            lane.kill()  # its trainer hands the training on, for the lane that takes its place
            before = steps.stat().st_size
            until(lambda: steps.stat().st_size > before + 3)
            assert training(on_cluster, training_id)["losses"] == 1
            lanes = [
                json.loads(line) for line in on_cluster("workers", "--json").stdout.splitlines()
            ]
            assert "training" in {one["state"] for one in lanes}
            assert worker.end() == 0
        handed_on = training(on_cluster, training_id)
        assert (handed_on["state"], handed_on["losses"]) == ("queued", 1)
        with Worker(on_cluster, "--queues", "train", FAKE_STEPS="90"):
            watched = on_cluster("watch", training_id)
            assert "pets@1, promoted in" in watched.stderr
        done = training(on_cluster, training_id)
        assert (done["state"], done["losses"], done["promoted"]) == ("done", 1, True)
    finally:
        scheduler.kill()
        scheduler.communicate()


def test_cancelled_training_ends_and_the_next_one_of_its_model_begins(
    on_cluster: Tagmill, tmp_path: Path
) -> None:
    steps = tmp_path / "steps"
    scheduler = on_cluster.start("scheduler", "--every", "0.3")
    try:
        with Worker(on_cluster, "--queues", "train", FAKE_STEPS="900"):
            first = on_cluster("train", "pets", "--name", "pets", "--enqueue").stdout.strip()
            until(lambda: steps.exists() and steps.stat().st_size > 1)
            on_cluster("cancel", first)
            second = on_cluster(
                "train", "pets", "--name", "pets", "--seed", "13", "--enqueue", "--follow", code=3
            )
            assert "failed: one class only: cats" in second.stderr
        assert training(on_cluster, first)["state"] == "cancelled"
        on_cluster("watch", first, code=3)
    finally:
        scheduler.kill()
        scheduler.communicate()


def test_schedules_are_fired_by_the_tick_and_what_they_label_is_listed_by_a_lane(
    on_cluster: Tagmill, photos: list[Path]
) -> None:
    for photo in photos[:9]:
        (on_cluster.home / "pets" / photo.name).symlink_to(photo)
    nightly = ("--cron", "0 2 * * *", "--zone", "Europe/Berlin")
    on_cluster("schedule", "add", "labels", *nightly, "--label", "pets")
    on_cluster("schedule", "add", "variant", *nightly, "--train", "pets", "--name", "pets")
    scheduler = on_cluster.start("scheduler", "--every", "0.3")
    try:
        with Worker(on_cluster, "--lanes", 1, "--root", "/", "--queues", "label,train"):
            job = on_cluster("schedule", "run", "labels").stdout.strip()
            on_cluster("watch", job)
            with closing(Store(on_cluster.environment["TAGMILL_STORE_URL"])) as store:
                for name in ("labels", "variant"):  # as if it were two at night
                    store.schedules.set_paused(name, False, next_at=store.jobs.now() - 1)
            listed = ("schedule", "list", "--json")
            until(lambda: "pets@1, promoted: accuracy 0.91" in on_cluster(*listed).stdout)
            until(lambda: len(on_cluster("status", "--json").stdout.splitlines()) == 3)
        rows = [json.loads(line) for line in on_cluster("status", "--json").stdout.splitlines()]
        assert [row.get("ok", row["state"]) for row in rows] == [0, 9, "done"]
        schedules = [json.loads(line) for line in on_cluster(*listed).stdout.splitlines()]
        assert all(one["next_at"] > rows[0]["created_at"] for one in schedules)
    finally:
        scheduler.kill()
        scheduler.communicate()
