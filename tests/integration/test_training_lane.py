"""A training from claim to end with a trainer that is none, on every database."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.polling import until
from support.registries import version_in

from tagmill.errors import ModelUnavailable, StoreAway, StoreFull, UsageError
from tagmill.registry import ModelVersion
from tagmill.settings import Settings
from tagmill.store import Store, Training
from tagmill.training import (
    CORRECTIONS,
    TrainingRequest,
    TrainingResult,
    TrainingState,
    TrainMessage,
)
from tagmill_worker import training_process
from tagmill_worker.training_lane import do_training
from tagmill_worker.training_process import await_training

PETS = TrainingRequest(name="pets", dataset="file:///pets")
BETTER = TrainingResult(said="0.97, before 0.95", fingerprint="f", version=4, is_better=True)


def trained(
    store: Store,
    settings: Settings,
    trainer: Callable[..., TrainingResult],
    *,
    is_stopping: Callable[[], bool] = lambda: False,
    training: Training | None = None,
) -> Training:
    asked = training or store.trainings.create(PETS)
    do_training(
        TrainMessage(training=asked.id),
        trainer=trainer,
        settings=settings,
        store=store,
        lane="train-cpu0@host",
        is_stopping=is_stopping,
    )
    return store.trainings.get(asked.id)


def test_version_that_is_better_is_promoted_and_the_trainer_told_what_it_needs(
    store: Store, settings: Settings
) -> None:
    version_in(settings.models_dir, "pets", 3)
    store.aliases.move("pets", 3, why="by hand")
    told: dict[str, Any] = {}

    def trainer(request: TrainingRequest, **how: Any) -> TrainingResult:
        told.update(how, request=request)
        how["progress"]("head", 3, 30)
        until(lambda: store.trainings.recent(1)[0].stage == "head")
        return TrainingResult(
            said="0.97", fingerprint="f", version=4, compared_with=3, is_better=True
        )

    done = trained(store, settings, trainer)
    assert (done.state, done.promoted, done.version) == (TrainingState.DONE, True, 4)
    assert (done.done, done.total, done.lane) == (3, 30, "train-cpu0@host")
    assert store.aliases.version("pets") == 4
    assert told["champion"] == ModelVersion(name="pets", number=3)
    assert (told["request"], told["settings"], told["known_fingerprint"]) == (PETS, settings, None)


@pytest.mark.parametrize(
    ("asked", "is_told"),
    [
        (PETS, False),
        (replace(PETS, with_corrections=True), True),
        (replace(PETS, dataset=CORRECTIONS), True),
    ],
)
def test_trainer_is_told_the_corrections_of_its_model_where_they_are_wanted(
    store: Store, settings: Settings, asked: TrainingRequest, is_told: bool
) -> None:
    store.corrections.add("pets", "cat", ["file:///1.jpg"])
    store.corrections.add("birds", "wren", ["file:///2.jpg"])
    told: dict[str, Any] = {}

    def trainer(_: TrainingRequest, **how: Any) -> TrainingResult:
        told.update(how)
        return BETTER

    trained(store, settings, trainer, training=store.trainings.create(asked))
    assert told["corrections"] == ({"file:///1.jpg": "cat"} if is_told else {})


def test_champion_that_is_gone_ends_a_training_before_it_begins(
    store: Store, settings: Settings
) -> None:
    store.aliases.move("pets", 3, why="by hand")
    failed = trained(store, settings, lambda *_, **__: pytest.fail("it is trained"))
    assert "pets@3, the champion, is gone from" in (failed.said or "")
    assert store.aliases.version("pets") == 3


def test_without_a_champion_a_version_is_compared_with_the_newest_imported_one(
    store: Store, settings: Settings
) -> None:
    version_in(settings.models_dir, "pets", 1, imported_from="a.keras")
    version_in(settings.models_dir, "pets", 2, imported_from="b.keras")
    version_in(settings.models_dir, "pets", 3, training="of a trainer that was killed")
    told: dict[str, Any] = {}

    def trainer(_: TrainingRequest, **how: Any) -> TrainingResult:
        told.update(how)
        return replace(BETTER, compared_with=how["champion"].number)

    assert trained(store, settings, trainer).promoted
    assert told["champion"] == ModelVersion(name="pets", number=2)
    assert store.aliases.rollback("pets") == (4, 2)


def test_message_that_comes_twice_trains_once(store: Store, settings: Settings) -> None:
    calls = []

    def trainer(*_: Any, **__: Any) -> TrainingResult:
        calls.append(trained(store, settings, trainer, training=store.trainings.recent(1)[0]))
        return BETTER

    done = trained(store, settings, trainer)
    assert trained(store, settings, trainer, training=done) == done
    assert [call.state for call in calls] == [TrainingState.RUNNING]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UsageError("one class only: cats"), "one class only: cats"),
        (ModelUnavailable("no weights"), "no weights"),
        (OSError(28, "No space left on device", "/x/model"), "/x/model: No space left on device"),
        (KeyError("x"), "a fault of tagmill's: KeyError('x')"),
        (StoreFull("no room left"), "no room left"),
        (MemoryError(), "a fault of tagmill's: MemoryError()"),
    ],
)
def test_training_that_cannot_be_done_fails_and_says_why(
    store: Store, settings: Settings, error: Exception, said: str
) -> None:
    def trainer(*_: Any, **__: Any) -> TrainingResult:
        raise error

    version_in(settings.models_dir, "pets", 3)
    store.aliases.move("pets", 3, why="by hand")
    failed = trained(store, settings, trainer)
    assert (failed.state, failed.said, failed.version) == (TrainingState.FAILED, said, None)
    assert store.aliases.version("pets") == 3


def test_store_that_is_away_at_the_end_is_waited_for(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, tries = store.training_claims.finish, []

    def away_once(*arguments: Any) -> bool:
        tries.append(arguments)
        if len(tries) == 1:
            raise StoreAway("away")
        return finish(*arguments)

    monkeypatch.setattr(store.training_claims, "finish", away_once)
    assert trained(store, settings, lambda *_, **__: BETTER).state is TrainingState.DONE
    assert len(tries) == 2


def test_cancelled_training_is_noticed_by_its_trainer(store: Store, settings: Settings) -> None:
    def trainer(*_: Any, **how: Any) -> TrainingResult:
        assert not how["is_cancelled"]()
        store.trainings.cancel(store.trainings.recent(1)[0].id)
        how["progress"]("head", 1, 2)
        until(how["is_cancelled"])
        return BETTER

    assert trained(store, settings, trainer).state is TrainingState.CANCELLED
    assert store.aliases.version("pets") is None


def test_worker_that_stops_hands_its_training_on(store: Store, settings: Settings) -> None:
    stops: list[bool] = []

    def trainer(*_: Any, **how: Any) -> TrainingResult:
        stops.append(True)
        assert how["is_cancelled"]()
        raise RuntimeError("stopped between two batches")

    handed_on = trained(store, settings, trainer, is_stopping=lambda: bool(stops))
    assert (handed_on.state, handed_on.losses) == (TrainingState.QUEUED, 0)
    assert store.trainings.waiting() == [TrainMessage(training=handed_on.id)]


def test_training_whose_trainer_is_ended_by_force_with_its_worker_has_lost_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = tmp_path / "stuck"
    stuck.write_text("#!/bin/sh\ntrap '' TERM\nsleep 60 & wait\n")
    stuck.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stuck))
    monkeypatch.setattr(training_process, "STOP_GRACE_S", 0.5)
    training = store.trainings.create(PETS)
    store.training_claims.claim(training.id, lane="lane", lease_s=60)
    message = TrainMessage(training=training.id)
    await_training(message, store=store, lane="lane", is_stopping=lambda: True)
    taken_back = store.trainings.get(training.id)
    assert (taken_back.state, taken_back.losses) == (TrainingState.QUEUED, 0)


def test_lease_is_renewed_for_as_long_as_the_training_takes(
    store: Store, settings: Settings
) -> None:
    short = settings.model_copy(update={"lease_s": 0.4})

    def trainer(*_: Any, **__: Any) -> TrainingResult:
        begun = store.jobs.now()
        until(lambda: store.jobs.now() - begun > 1.2)
        assert store.training_claims.release_expired() == []
        return BETTER

    assert trained(store, short, trainer).state is TrainingState.DONE
