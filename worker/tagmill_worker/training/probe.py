"""The probe: a new version is loaded as lanes load it, and must label images before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.contract import Item
from tagmill.errors import ItemError, TagmillError
from tagmill.registry import ModelVersion, Registry
from tagmill.settings import Settings
from tagmill_worker.loading import Loader
from tagmill_worker.training.dataset import Example

PROBE_IMAGES = 32
LEAST_AGREEMENT = 0.98
"""Of the labels that a lane's runtime gives with those of the network as it was trained."""

_CLOSE = 1e-3  # scores that are nearer than that are one label as good as the other


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """What became of the probe.

    Attributes:
        passed: the version may be used.
        images: that it labelled.
        agreement: share of them that were labelled as by the trained network.
        said: why it may not be used; empty where it may.
    """

    passed: bool
    images: int = 0
    agreement: float = 0.0
    said: str = ""


def probe(
    registry: Registry,
    version: ModelVersion,
    model: Any,
    examples: Sequence[Example],
    *,
    settings: Settings,
) -> Probed:
    """Load a version in a lane's loop and have it label images.

    Args:
        registry: that holds it.
        version: which.
        model: the Keras network that it was made of.
        examples: images that can be read.
        settings: of the lane.
    """
    try:
        lane = settings.model_copy(update={"classifier": "litert"})
        loop = Loader(lane, registry)(str(version))
        items = [Item(n=n, uri=e.uri, version=e.version) for n, e in enumerate(examples)]
        outcomes = loop.run(items, top_k=1).outcomes
    except TagmillError as error:
        return Probed(passed=False, said=f"a lane cannot load it: {error}")
    images, named = [], []
    for item, outcome in zip(items, outcomes, strict=True):
        if outcome.labels:
            try:
                images.append(loop.decode(loop.fetch(item).data).pixels)
                named.append(outcome.labels[0].name)
            except ItemError:  # it was taken away since
                continue
    if not images:
        return Probed(passed=False, said="none of the probe's images could be labelled")
    pixels = np.stack(images)
    return judge(
        loop.classifier.predict(pixels),
        np.asarray(model.predict_on_batch(pixels), np.float32),
        said=named,
        labels=[name for _, name in loop.labels],
    )


def judge(
    scores: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.float32],
    *,
    said: Sequence[str],
    labels: Sequence[str],
) -> Probed:
    """Judge what a lane gave.

    Args:
        scores: of the lane's runtime, ``(N, C)``.
        wanted: of the trained network.
        said: the best label of each image, as the lane named it.
        labels: of the version, in its order.
    """
    if scores.shape != wanted.shape or scores.shape[1] != len(labels):
        return Probed(
            passed=False,
            said=f"it gives {scores.shape[1]:,} scores, the network {wanted.shape[1]:,}, and it "
            f"has {len(labels):,} labels",
        )
    if not np.isfinite(scores).all():
        return Probed(passed=False, images=len(scores), said="scores that are no numbers")
    sums = scores.sum(axis=1)
    if np.abs(sums - 1).max() > 0.01:
        return Probed(
            passed=False,
            images=len(scores),
            said=f"scores that add up to {sums.min():.3f} to {sums.max():.3f} and not to 1",
        )
    rows = np.arange(len(scores))
    best = wanted.max(axis=1)
    agrees = best - wanted[rows, scores.argmax(axis=1)] < _CLOSE
    agrees &= np.array([labels[i] for i in scores.argmax(axis=1)]) == np.array(said)
    agreement = float(agrees.mean())
    why = (
        ""
        if agreement >= LEAST_AGREEMENT
        else (
            f"a lane labels {100 * agreement:.0f} % of {len(scores)} images as the trained network "
            f"does, the least is {100 * LEAST_AGREEMENT:.0f} %"
        )
    )
    return Probed(passed=not why, images=len(scores), agreement=agreement, said=why)
