"""Trainings and aliases in the store, on every database that it may run on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tagmill.errors import ClaimLost, UnknownModel, UnknownTraining, UsageError
from tagmill.store import ClaimedTraining, Store
from tagmill.store.training_claims import MOST_LOSSES, MOST_LOSSES_HERE
from tagmill.training import TrainingRequest, TrainingResult, TrainingState

PETS = TrainingRequest(name="pets", dataset="file:///pets")
BETTER = TrainingResult(said="better", fingerprint="f1", version=1, is_better=True)


def claim(store: Store, training_id: str, lease_s: float = 60) -> ClaimedTraining:
    found = store.training_claims.claim(training_id, lane="lane", lease_s=lease_s)
    assert found is not None
    return found


def lose(store: Store, training_id: str, stage: str, done: int) -> None:
    """Kill the lane of a training that has come so far."""
    held = claim(store, training_id)
    assert store.training_claims.renew(held, lease_s=-1, stage=stage, done=done, total=99)
    store.training_claims.release_expired()


def trained(store: Store, result: TrainingResult, request: TrainingRequest = PETS) -> str:
    training = store.trainings.create(request)
    store.training_claims.finish(claim(store, training.id), result)
    return training.id


def test_training_runs_from_queued_to_done_and_its_version_becomes_champion(store: Store) -> None:
    training = store.trainings.create(replace(PETS, min_gain=0.01, seed=7))
    assert training.state is TrainingState.QUEUED
    assert store.trainings.waiting()[0].training == training.id
    held = claim(store, training.id)
    assert (held.attempt, held.champion, held.request.seed) == (1, None, 7)
    assert store.training_claims.renew(held, lease_s=60, stage="features", done=3, total=9)
    running = store.trainings.get(training.id[:9])
    assert (running.state, running.stage, running.done, running.total) == (
        TrainingState.RUNNING, "features", 3, 9,
    )  # fmt: skip
    assert store.training_claims.finish(held, replace(BETTER, about={"accuracy": 0.97}))
    done = store.trainings.get(training.id)
    assert (done.state, done.version, done.promoted) == (TrainingState.DONE, 1, True)
    assert done.result == {"accuracy": 0.97}
    assert store.aliases.version("pets") == 1
    assert not store.trainings.cancel(training.id)


def test_one_request_of_many_at_once_is_one_training(store: Store) -> None:
    barrier = threading.Barrier(6)

    def ask(_: int) -> str:
        barrier.wait()
        return store.trainings.ask(PETS).id

    with ThreadPoolExecutor(6) as pool:
        (asked,) = set(pool.map(ask, range(6)))
    assert store.trainings.ask(replace(PETS, seed=1)).id != asked
    store.trainings.cancel(asked)
    assert store.trainings.ask(PETS).id != asked


def test_of_many_lanes_one_claims_a_training_and_one_training_of_a_model(store: Store) -> None:
    first, second = store.trainings.create(PETS), store.trainings.create(replace(PETS, seed=1))
    other = store.trainings.create(replace(PETS, name="birds"))
    barrier = threading.Barrier(9)

    def ask(training_id: str) -> ClaimedTraining | None:
        barrier.wait()
        return store.training_claims.claim(training_id, lane="lane", lease_s=60)

    with ThreadPoolExecutor(9) as pool:
        asked = [first.id, second.id, other.id] * 3
        held = [found for found in pool.map(ask, asked) if found]
    assert sorted(one.request.name for one in held) == ["birds", "pets"]
    assert store.trainings.waiting() == [], "the other one of pets waits until that one has ended"
    (pets,) = [one for one in held if one.request.name == "pets"]
    assert store.training_claims.fail(pets, "no")
    assert len(store.trainings.waiting()) == 1


def test_lane_that_was_overtaken_writes_nothing_and_promotes_nothing(store: Store) -> None:
    training = store.trainings.create(PETS)
    late = claim(store, training.id, lease_s=-1)
    assert store.training_claims.claim(training.id, lane="b", lease_s=60) is None
    assert store.training_claims.release_expired() == [training.id]
    newer = claim(store, training.id)
    assert newer.attempt == 2
    assert not store.training_claims.renew(late, lease_s=60, stage="x", done=1, total=1)
    assert not store.training_claims.fail(late, "no")
    store.training_claims.give_back(late)
    with pytest.raises(ClaimLost):
        store.training_claims.finish(late, BETTER)
    assert store.aliases.version("pets") is None
    assert store.trainings.get(training.id).state is TrainingState.RUNNING
    assert store.training_claims.finish(newer, BETTER)


def test_training_that_keeps_losing_its_lane_fails(store: Store) -> None:
    training = store.trainings.create(PETS)
    for _ in range(MOST_LOSSES_HERE):
        lose(store, training.id, "head", 7)
    failed = store.trainings.get(training.id)
    assert failed.state is TrainingState.FAILED
    assert "lost 4 times, 4 of them in a row at head" in (failed.said or "")
    assert store.trainings.waiting() == []


@pytest.mark.parametrize(
    "places",
    [
        [("", 0), ("", 0), ("", 0)],
        [("head", 5), ("head", 3), ("head", 5)],
        [("features", 40), ("head", 1), ("probe", 0)],
    ],
)
def test_training_that_is_killed_three_times_goes_on_to_its_end(
    store: Store, places: list[tuple[str, int]]
) -> None:
    training = store.trainings.create(PETS)
    for stage, done in places:
        lose(store, training.id, stage, done)
    assert store.training_claims.finish(claim(store, training.id), BETTER)
    done = store.trainings.get(training.id)
    assert (done.state, done.losses, done.promoted) == (TrainingState.DONE, 3, True)


def test_losses_of_a_training_that_gets_on_do_not_add_up_but_are_not_endless(store: Store) -> None:
    training = store.trainings.create(PETS)
    for done in range(MOST_LOSSES - 1):
        lose(store, training.id, "head" if done < 9 else "tuning", done)
    assert store.trainings.get(training.id).state is TrainingState.QUEUED
    lose(store, training.id, "tuning", MOST_LOSSES)
    failed = store.trainings.get(training.id)
    assert (failed.state, failed.losses) == (TrainingState.FAILED, MOST_LOSSES)


def test_training_that_is_given_back_or_known_to_be_nobodys_has_lost_nothing(store: Store) -> None:
    training = store.trainings.create(PETS)
    store.training_claims.give_back(claim(store, training.id))
    claim(store, training.id)
    assert store.training_claims.release_expired() == []
    assert store.training_claims.release_expired(training.id) == [training.id]
    assert store.trainings.get(training.id).losses == 0
    assert store.trainings.unfinished(PETS) == store.trainings.get(training.id)
    assert store.trainings.unfinished(replace(PETS, seed=1)) is None


def test_lane_takes_back_what_is_its_own_only(store: Store) -> None:
    training = store.trainings.create(PETS)
    held = claim(store, training.id)
    assert not store.training_claims.take_back(training.id, lane="another")
    assert store.training_claims.take_back(training.id, lane="lane")
    assert not store.training_claims.take_back(training.id, lane="lane"), "it is nobody's"
    taken_back = store.trainings.get(training.id)
    assert (taken_back.state, taken_back.losses) == (TrainingState.QUEUED, 0)
    assert not store.training_claims.renew(held, lease_s=60, stage="x", done=1, total=1)


def test_cancelled_training_is_over_for_its_lane(store: Store) -> None:
    training = store.trainings.create(PETS)
    held = claim(store, training.id)
    assert store.trainings.cancel(training.id)
    assert not store.training_claims.renew(held, lease_s=60, stage="x", done=1, total=1)
    with pytest.raises(ClaimLost):
        store.training_claims.finish(held, BETTER)
    assert store.aliases.version("pets") is None


def test_version_is_not_promoted_over_a_champion_that_it_was_not_compared_with(
    store: Store,
) -> None:
    training = store.trainings.create(PETS)
    held = claim(store, training.id)
    store.aliases.move("pets", 5, why="by hand")
    assert not store.training_claims.finish(held, BETTER)
    done = store.trainings.get(training.id)
    assert (done.state, done.promoted) == (TrainingState.DONE, False)
    assert done.said == "better; not promoted, as the champion became pets@5 meanwhile"
    assert store.aliases.version("pets") == 5


def test_fingerprint_of_the_last_training_of_the_same_request_is_known(store: Store) -> None:
    nightly = replace(PETS, skip_unchanged=True)
    trained(store, replace(BETTER, is_better=False))
    trained(store, replace(BETTER, fingerprint="f2"), replace(PETS, fine_tune_blocks=2))
    again = store.trainings.create(nightly)
    assert claim(store, again.id).known_fingerprint == "f1"
    by_hand = store.trainings.create(replace(PETS, name="birds"))
    assert claim(store, by_hand.id).known_fingerprint is None


def test_rollback_goes_back_step_by_step_and_history_keeps_all(store: Store) -> None:
    for version in (1, 2, 3):
        store.aliases.move("pets", version, why="by hand")
    assert store.aliases.move("pets", 3, why="by hand") == 3, "which moved nothing"
    assert store.aliases.rollback("pets") == (3, 2)
    assert store.aliases.rollback("pets") == (2, 1)
    with pytest.raises(UsageError, match="no earlier version"):
        store.aliases.rollback("pets")
    with pytest.raises(UsageError, match="no earlier version"):
        store.aliases.rollback("birds")
    store.aliases.move("pets", 4, why="t1")
    assert store.aliases.rollback("pets") == (4, 1)
    assert [(move.before, move.version) for move in store.aliases.history("pets")] == [
        (None, 1), (1, 2), (2, 3), (3, 2), (2, 1), (1, 4), (4, 1),
    ]  # fmt: skip
    assert store.aliases.all() == {("pets", "champion"): 1}


def test_moves_made_at_once_follow_each_other(store: Store) -> None:
    barrier = threading.Barrier(6)

    def move(version: int) -> int | None:
        barrier.wait()
        return store.aliases.move("pets", version, why="by hand")

    with ThreadPoolExecutor(6) as pool:
        before = list(pool.map(move, range(1, 7)))
    moves = store.aliases.history("pets")
    assert len(moves) == 6
    assert [move.before for move in moves] == [None, *(move.version for move in moves[:-1])]
    assert set(before) == {move.before for move in moves}
    assert store.aliases.version("pets") == moves[-1].version


def test_what_cannot_be_trained_is_refused(store: Store) -> None:
    for wrong in ("a/b", "", "Pets", "../x", "p" * 65, "a\0", "pets@1"):
        with pytest.raises(UnknownModel, match="no name of a model"):
            TrainingRequest(name=wrong, dataset="x")
    with pytest.raises(UsageError, match="mobilenet_v2 is a built-in model"):
        TrainingRequest(name="mobilenet_v2", dataset="x")
    for values in ({"fine_tune_blocks": 18}, {"min_gain": 2.0}, {"seed": -1}):
        with pytest.raises(UsageError):
            replace(PETS, **values)  # type: ignore[arg-type]
    for unknown in ("", "t", "%", "a\0", "\udcff"):
        with pytest.raises(UnknownTraining):
            store.trainings.get(unknown)
