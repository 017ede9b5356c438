"""Whether a score of 0.8 is right in 8 of 10 cases, and the temperature by which it becomes so.

A temperature divides the logits before the softmax (Guo et al., 2017, arXiv:1706.04599): no label
changes, only how sure it is said to be. It is fitted to targets that leave one image in as many as
there are to chance, as Platt's do (Probabilistic Outputs for Support Vector Machines, 1999): a
holdout without a mistake would have every score made 1 otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15
"""Of the expected calibration error, as in the paper."""

COLDEST, HOTTEST = 0.2, 10.0
LEAST_IMAGES = 20
"""Of a holdout that a temperature is fitted on; fewer say nothing."""

_STEPS = 60

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Images whose best scores are alike: what was said, and what was so."""

    images: int
    score: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How scores and truth go together on the holdout.

    Attributes:
        temperature: by which logits are divided; 1 where dividing makes nothing better.
        error_before: the expected calibration error of the scores as the head gives them.
        error_after: the same with temperatures that were fitted on the other folds.
        bins_before: of the scores before.
        bins_after: of the scores after.
    """

    temperature: float
    error_before: float
    error_after: float
    bins_before: tuple[Bin, ...]
    bins_after: tuple[Bin, ...]


def calibrate(logits: Logits, labels: Labels, folds: Labels) -> Calibration:
    """Find the temperature, and what it does to images that it was not fitted on."""
    before = softmax(logits)
    error_before = calibration_error(before, labels)
    after = before.copy()
    if len(labels) >= LEAST_IMAGES:
        for fold in np.unique(folds):
            here = folds == fold
            if not here.all():
                after[here] = softmax(logits[here] / temperature(logits[~here], labels[~here]))
    error_after = calibration_error(after, labels)
    found = temperature(logits, labels) if len(labels) >= LEAST_IMAGES else 1.0
    if error_after >= error_before:
        found, after, error_after = 1.0, before, error_before
    return Calibration(
        temperature=found,
        error_before=error_before,
        error_after=error_after,
        bins_before=_bins(before, labels),
        bins_after=_bins(after, labels),
    )


def temperature(logits: Logits, labels: Labels) -> float:
    """The temperature at which the targets are likeliest, by golden sections of its logarithm."""
    low, high = np.log(COLDEST), np.log(HOTTEST)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if _loss(logits, labels, left) < _loss(logits, labels, right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _loss(logits: Logits, labels: Labels, log_temperature: float) -> float:
    scaled = np.float64(logits) / np.exp(log_temperature)
    scaled -= scaled.max(axis=1, keepdims=True)
    log_scores = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    true = log_scores[np.arange(len(labels)), labels]
    others = (log_scores.sum(axis=1) - true) / max(1, logits.shape[1] - 1)
    chance = 1 / (len(labels) + 2)
    return float(-((1 - chance) * true + chance * others).mean())


def softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Scores of logits, row by row."""
    raised = np.exp(np.float64(logits) - np.float64(logits).max(axis=1, keepdims=True))
    scores: npt.NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return scores


def calibration_error(scores: npt.NDArray[np.float64], labels: Labels) -> float:
    """The expected calibration error: by how much best scores and accuracy differ, bin by bin."""
    found = _bins(scores, labels)
    total = max(1, len(labels))
    return sum(b.images / total * abs(b.score - b.accuracy) for b in found)


def _bins(scores: npt.NDArray[np.float64], labels: Labels) -> tuple[Bin, ...]:
    best, is_right = scores.max(axis=1), scores.argmax(axis=1) == labels
    which = np.minimum((best * BINS).astype(int), BINS - 1)
    found = []
    for number in range(BINS):
        here = which == number
        found.append(
            Bin(
                images=int(here.sum()),
                score=float(best[here].mean()) if here.any() else (number + 0.5) / BINS,
                accuracy=float(is_right[here].mean()) if here.any() else 0.0,
            )
        )
    return tuple(found)
