"""Heads: what is drawn comes from the seed, and what was stopped goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmill_worker.training.fitting import batches_of, class_weights
from tagmill_worker.training.head import Recipe, Trained, train_head

RECIPE = Recipe(units=16, rate=1e-2, most_epochs=12, most_steps=4)
WIDTH, CLASSES = 8, 3


class Stopped(Exception):
    """In place of a kill."""


def clusters(count: int, seed: int = 0) -> tuple[Any, Any]:
    drawn = np.random.default_rng(seed)
    labels = drawn.integers(0, CLASSES, count)
    centres = 2 * np.random.default_rng(9).normal(size=(CLASSES, WIDTH))
    return (centres[labels] + drawn.normal(size=(count, WIDTH))).astype(np.float32), labels


def trained(folder: Path, *, recipe: Recipe = RECIPE, stop_at: int | None = None) -> Trained:
    seen, labels = clusters(160)
    steps = 0

    def moved(_: int, __: int) -> None:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            raise Stopped

    return train_head(
        seen,
        labels,
        np.arange(160) % 5 == 0,
        classes=CLASSES,
        recipe=recipe,
        folder=folder,
        key="a dataset",
        moved=moved,
        checkpoint_s=0,
    )


def weights(head: Trained) -> list[Any]:
    return [np.asarray(each) for each in head.model.get_weights()]


def same(one: Trained, other: Trained) -> bool:
    pairs = zip(weights(one), weights(other), strict=True)
    return one.losses == other.losses and all((a == b).all() for a, b in pairs)


def test_a_head_learns_and_the_same_seed_gives_the_same_one(tmp_path: Path) -> None:
    head = trained(tmp_path / "a")
    seen, labels = clusters(300, seed=1)
    assert (np.asarray(head.model(seen)).argmax(axis=1) == labels).mean() > 0.9
    assert same(head, trained(tmp_path / "b"))
    assert not same(head, trained(tmp_path / "c", recipe=Recipe(**{**_dict(RECIPE), "seed": 1})))


@pytest.mark.parametrize("refits_below", [5_000, 10])
def test_what_was_stopped_anywhere_ends_with_the_same_weights(
    tmp_path: Path, refits_below: int
) -> None:
    recipe = Recipe(**{**_dict(RECIPE), "refits_below": refits_below})
    whole = trained(tmp_path / "whole", recipe=recipe)
    for stop_at in (1, 3, 10, 7):  # counted from where it goes on
        with pytest.raises(Stopped):
            trained(tmp_path / "stopped", recipe=recipe, stop_at=stop_at)
    assert same(whole, trained(tmp_path / "stopped", recipe=recipe))


@pytest.mark.parametrize("harm", ["cut", "other", "best"])
def test_a_checkpoint_that_is_harmed_or_of_something_else_is_passed_over(
    tmp_path: Path, harm: str
) -> None:
    whole = trained(tmp_path / "whole")
    if harm == "other":
        trained(tmp_path / "a", recipe=Recipe(**{**_dict(RECIPE), "seed": 3}))
    else:
        with pytest.raises(Stopped):
            trained(tmp_path / "a", stop_at=9)
        if harm == "cut":
            path = tmp_path / "a" / "search.npz"
            path.write_bytes(path.read_bytes()[:300])
        else:  # as if another training's were there
            (best,) = (tmp_path / "a").glob("search-best-*.npz")
            best.rename(tmp_path / "a" / "search-best-other.npz")
    assert same(whole, trained(tmp_path / "a"))


def test_large_sets_have_larger_batches_and_fewer_epochs() -> None:
    recipe = Recipe()
    assert (recipe.batch_size(100), recipe.epochs(100), recipe.patience(100)) == (32, 100, 10)
    assert (recipe.batch_size(20_000), recipe.epochs(20_000)) == (200, 8)
    assert (recipe.batch_size(10**6), recipe.epochs(10**6), recipe.patience(10**6)) == (512, 8, 3)


def test_every_class_weighs_the_same() -> None:
    found = class_weights(np.array([0] * 90 + [1] * 10), 2)
    assert found[:90].sum() == pytest.approx(found[90:].sum())


def test_every_epoch_has_its_order_and_batches_of_one_size() -> None:
    def drawn(epoch: int, step: int = 0) -> list[list[int]]:
        batches = list(batches_of(50, 8, seed=1, epoch=epoch, step=step))
        assert {len(chosen) for chosen, _ in batches} == {8}
        return [chosen[counts > 0].tolist() for chosen, counts in batches]

    assert sorted(n for batch in drawn(2) for n in batch) == list(range(50))
    assert drawn(2) == drawn(2) != drawn(3)
    assert drawn(2, step=4) == drawn(2)[4:]


def _dict(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in Recipe.__slots__}  # type: ignore[attr-defined]
