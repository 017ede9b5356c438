"""Metrics, calibration, and the verdict on a challenger."""

from __future__ import annotations

import numpy as np
import pytest

from tagmill_worker.training.calibration import calibrate, calibration_error, softmax, temperature
from tagmill_worker.training.evaluation import compare, evaluate, newcombe, wilson

CLASSES = ("ant", "bee", "cat")


def logits_of(labels: np.ndarray, *, sureness: float, right: float, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed)
    said = np.where(drawn.random(len(labels)) < right, labels, (labels + 1) % 3)
    noise = drawn.normal(0, 0.1, (len(labels), 3))
    return (sureness * np.eye(3)[said] + noise).astype(np.float32)


def test_metrics_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    logits = np.array([[2, 1, 0], [2, 1, 0], [0, 5, 0], [0, 1, 0], [0, 1, 0]], np.float32)
    found = evaluate(logits, labels, CLASSES, np.zeros(5, np.int64))
    assert found.accuracy.value == 0.8
    assert found.matrix.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert [(c.images, c.precision, c.recall) for c in found.classes] == [
        (3, 1.0, pytest.approx(2 / 3)),
        (2, pytest.approx(2 / 3), 1.0),
        (0, None, None),
    ]
    (pair,) = found.confusions
    assert (pair.label, pair.said, pair.count, pair.examples) == ("ant", "bee", 1, (2,))


def test_wilson_of_known_shares() -> None:
    few = wilson(8, 10)
    assert (round(few.low, 3), round(few.high, 3)) == (0.49, 0.943)
    assert wilson(0, 0).high == 1.0


@pytest.mark.parametrize("sureness", [0.5, 2.0, 8.0])
def test_a_temperature_makes_scores_as_sure_as_they_may_be(sureness: float) -> None:
    labels = np.random.default_rng(1).integers(0, 3, 600)
    logits = logits_of(labels, sureness=sureness, right=0.8)
    found = calibrate(logits, labels, np.arange(600) % 5)
    assert found.error_after <= found.error_before
    assert found.error_after < 0.06
    cooled = softmax(logits / found.temperature)
    assert calibration_error(cooled, labels) < 0.06
    assert (cooled.argmax(axis=1) == logits.argmax(axis=1)).all()


def test_calibration_is_never_made_worse_and_few_images_teach_nothing() -> None:
    for seed in range(20):
        labels = np.random.default_rng(seed).integers(0, 3, 25)
        logits = logits_of(labels, sureness=3, right=0.85, seed=seed)
        found = calibrate(logits, labels, np.arange(25) % 5)
        assert found.error_after <= found.error_before
    assert calibrate(logits[:10], labels[:10], np.arange(10) % 5).temperature == 1.0


def test_the_likeliest_temperature_is_the_one_that_was_used() -> None:
    drawn = np.random.default_rng(3)
    true = drawn.normal(0, 2, (4_000, 3))
    labels = np.array([drawn.choice(3, p=row) for row in softmax(true)])
    assert temperature((true * 4).astype(np.float32), labels) == pytest.approx(4, rel=0.1)


def test_a_holdout_without_a_mistake_does_not_make_every_score_one() -> None:
    labels = np.random.default_rng(5).integers(0, 3, 60)
    logits = logits_of(labels, sureness=2, right=1.0, seed=5)
    best = softmax(logits / temperature(logits, labels)).max(axis=1)
    assert 0.96 < best.mean() < 0.995, "one in as many as there are is left to chance"


def verdict(won: int, lost: int, both: int) -> tuple[np.ndarray, np.ndarray]:
    ours = np.array([True] * (won + both) + [False] * lost)
    theirs = np.array([False] * won + [True] * (both + lost))
    return ours, theirs


@pytest.mark.parametrize(
    ("won", "lost", "min_gain", "is_better"),
    [(20, 2, 0.0, True), (20, 2, 0.5, False), (5, 4, 0.0, False), (0, 0, 0.0, False)],
)
def test_a_challenger_is_better_where_it_surely_is_and_by_enough(
    won: int, lost: int, min_gain: float, is_better: bool
) -> None:
    found = compare(*verdict(won, lost, 78), name="pets@1")
    assert found.is_better(min_gain) is is_better
    assert found.gain.low <= found.gain.value <= found.gain.high
    said = found.said(min_gain)
    assert "pets@1" in said
    assert "95 %" in said
    assert said.startswith("better") is is_better


def test_the_interval_of_a_gain_is_that_of_a_worked_example() -> None:
    # Altman and others, Statistics with Confidence (2000), table 6.2
    found = newcombe(14, 5, 0, 22)
    assert (round(found.value, 3), round(found.low, 3), round(found.high, 3)) == (
        0.122, 0.011, 0.226,
    )  # fmt: skip


@pytest.mark.parametrize("apart", [(0.15, 0.0), (0.1, 0.05), (0.02, 0.2)])
@pytest.mark.parametrize("images", [30, 200])
def test_the_interval_of_a_gain_holds_in_95_of_100_cases(
    images: int, apart: tuple[float, float]
) -> None:
    won, lost = apart
    shares = [0.9 * (1 - won - lost), won, lost, 0.1 * (1 - won - lost)]
    drawn = np.random.default_rng(7).multinomial(images, shares, size=2_000)
    found = [newcombe(*(int(count) for count in counts)) for counts in drawn]
    holds = [gain.low <= won - lost <= gain.high for gain in found]
    assert np.mean(holds) > 0.93
    assert all(gain.low <= gain.value <= gain.high for gain in found)


def test_few_images_make_no_challenger_surely_better() -> None:
    assert not compare(*verdict(4, 0, 24), name="pets@1").is_better(0.0)
    assert newcombe(0, 0, 0, 0).low == -1.0
