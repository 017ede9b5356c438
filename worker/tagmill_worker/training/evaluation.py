"""How good a version is on the holdout, and how sure that is. All of it is arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from tagmill_worker.training.calibration import Calibration, calibrate

Z = 1.959964
"""Of the normal distribution: intervals hold in 95 of 100 cases."""

SHOWN_PAIRS, SHOWN_EXAMPLES = 10, 6

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A share, and between what it lies in 95 of 100 cases."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMetrics:
    """Of one class; ``None`` where the holdout, or what was said of it, has none of it."""

    label: str
    images: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Two classes that are taken for each other.

    Attributes:
        label: what the images are.
        said: what they are taken for.
        count: how many are.
        examples: which, by their number in the holdout, the surest mistakes first.
    """

    label: str
    said: str
    count: int
    examples: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a version gives on the holdout.

    Attributes:
        images: of the holdout.
        accuracy: share of images whose best label is theirs.
        classes: in the model's order.
        matrix: ``matrix[true, said]`` images.
        confusions: the commonest first.
        calibration: of its scores.
    """

    images: int
    accuracy: Interval
    classes: tuple[ClassMetrics, ...]
    matrix: npt.NDArray[np.int64]
    confusions: tuple[Confusion, ...]
    calibration: Calibration


def evaluate(logits: Scores, labels: Labels, classes: Sequence[str], folds: Labels) -> Evaluation:
    """Measure logits on the holdout.

    Args:
        logits: float32 ``(N, classes)``.
        labels: what the images are.
        classes: by name, in the model's order.
        folds: the number of each image's fold, for what is fitted on the holdout itself.
    """
    said = logits.argmax(axis=1)
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, (labels, said), 1)
    return Evaluation(
        images=len(labels),
        accuracy=wilson(int((said == labels).sum()), len(labels)),
        classes=tuple(
            ClassMetrics(
                label=label,
                images=int(matrix[i].sum()),
                precision=_share(matrix[i, i], matrix[:, i].sum()),
                recall=_share(matrix[i, i], matrix[i].sum()),
            )
            for i, label in enumerate(classes)
        ),
        matrix=matrix,
        confusions=tuple(_confusions(logits, labels, matrix, classes)),
        calibration=calibrate(logits, labels, folds),
    )


def wilson(right: int, of: int) -> Interval:
    """A share of few with its interval (Wilson, 1927, doi:10.2307/2276774)."""
    if of == 0:
        return Interval(value=0.0, low=0.0, high=1.0)
    share, spread = right / of, Z * Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = Z * sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return Interval(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A challenger against the champion, on the same images.

    Attributes:
        champion: as ``name@number``.
        images: that both labelled.
        champion_accuracy: on them.
        only_challenger: images that only the challenger tells.
        only_champion: those that only the champion does.
        gain: in accuracy, with the interval of that.
        unknown: images of classes that the champion does not know, and so gets wrong.
        is_imported: the champion is somebody else's, who may have trained it on these images.
    """

    champion: str
    images: int
    champion_accuracy: float
    only_challenger: int
    only_champion: int
    gain: Interval
    unknown: int = 0
    is_imported: bool = False

    def is_better(self, min_gain: float) -> bool:
        """True where the gain is large enough, and surely one."""
        return self.gain.value >= min_gain and self.gain.low > 0

    def said(self, min_gain: float) -> str:
        """The verdict in a sentence, with how sure it is."""
        gain = self.gain
        measured = (
            f"{100 * gain.value:+.1f} points of accuracy against {self.champion} on "
            f"{self.images:,} images (95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
        )
        if self.is_better(min_gain):
            return f"better: {measured}"
        if gain.low > 0:
            return f"not better by {100 * min_gain:.1f} points: {measured}"
        return f"not surely better: {measured}"


def compare(
    challenger: npt.NDArray[np.bool_],
    champion: npt.NDArray[np.bool_],
    *,
    name: str,
    unknown: int = 0,
    is_imported: bool = False,
) -> Comparison:
    """Compare two versions by which images each of them tells.

    Args:
        challenger: for each image, whether its best label is right.
        champion: the same, image by image.
        name: the champion's.
        unknown: as in `Comparison`.
        is_imported: as in `Comparison`.
    """
    won = int((challenger & ~champion).sum())
    lost = int((champion & ~challenger).sum())
    both = int((challenger & champion).sum())
    images = len(challenger)
    return Comparison(
        champion=name,
        images=images,
        champion_accuracy=float(champion.mean()) if images else 0.0,
        only_challenger=won,
        only_champion=lost,
        gain=newcombe(both, won, lost, images - both - won - lost),
        unknown=unknown,
        is_imported=is_imported,
    )


def newcombe(both: int, won: int, lost: int, neither: int) -> Interval:
    """The difference of two shares of the same things, with its interval.

    Method 10 of Newcombe, 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data" (Statistics in Medicine 17, 2635-2650): Wilson's intervals of
    both shares, put together as their correlation allows.

    Args:
        both: things of both shares.
        won: of the first alone.
        lost: of the second alone.
        neither: of none.
    """
    of = both + won + lost + neither
    if of == 0:
        return Interval(value=0.0, low=-1.0, high=1.0)
    first, second = wilson(both + won, of), wilson(both + lost, of)
    product = (both + won) * (lost + neither) * (both + lost) * (won + neither)
    together: float = both * neither - won * lost
    if together > 0:
        together = max(together - of / 2, 0.0)
    correlation = together / sqrt(product) if product else 0.0

    def spread(one: float, other: float) -> float:
        return sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    value = (won - lost) / of
    return Interval(
        value=value,
        low=value - spread(first.value - first.low, second.high - second.value),
        high=value + spread(first.high - first.value, second.value - second.low),
    )


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _confusions(
    logits: Scores, labels: Labels, matrix: npt.NDArray[np.int64], classes: Sequence[str]
) -> list[Confusion]:
    apart = matrix.copy()
    np.fill_diagonal(apart, 0)
    said = logits.argmax(axis=1)
    sureness = logits.max(axis=1) - logits[np.arange(len(labels)), labels]
    found = []
    for flat in np.argsort(-apart, axis=None, kind="stable")[:SHOWN_PAIRS]:
        true, taken = divmod(int(flat), len(classes))
        if not apart[true, taken]:
            break
        which = np.flatnonzero((labels == true) & (said == taken))
        surest = which[np.argsort(-sureness[which], kind="stable")][:SHOWN_EXAMPLES]
        found.append(
            Confusion(
                label=classes[true],
                said=classes[taken],
                count=int(apart[true, taken]),
                examples=tuple(surest.tolist()),
            )
        )
    return found
