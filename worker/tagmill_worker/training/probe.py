"""The probe: a lane loads a new version, and must label images with it before it is used."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.embedded import worker_environment
from tagmill.embedded.process import end, start
from tagmill.errors import WorkerStopped
from tagmill.registry import ModelVersion, Registry
from tagmill.settings import Settings
from tagmill.state_folder import last_words
from tagmill_worker.signals import killed_by
from tagmill_worker.training.dataset import Example

PROBE_IMAGES = 32
LEAST_AGREEMENT = 0.98
"""Of the labels that a lane's runtime gives with those of the network as it was trained."""

LONGEST_S = 300.0
"""For a lane to start and label them: S3 may be slow."""

_LOOK_S = 0.2
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
    check: Callable[[], None] = lambda: None,
) -> Probed:
    """Have a lane load a version and label images: one that dies of it is no end of the trainer.

    Args:
        registry: a folder that holds it.
        version: which.
        model: the Keras network that it was made of.
        examples: images that can be read.
        settings: of the lane.
        check: called while the lane is at work; what it raises ends the work.

    Raises:
        WorkerStopped: if the lane ended for a reason that is none of the version's.
    """
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=registry.folder) as scratch:
        folder = Path(scratch)
        images = [[example.uri, example.version] for example in examples]
        asked = json.dumps({"version": str(version), "images": images})
        (folder / "probe.json").write_text(asked, encoding="utf-8")
        lane = settings.model_copy(update={"models": str(registry.folder)})
        signum = _run_lane(lane, folder, check)
        if signum:
            return Probed(passed=False, said=f"a lane died of it, {killed_by(signum)}")
        with np.load(folder / "probe.npz") as found:
            if "refused" in found:
                return Probed(passed=False, said=f"a lane cannot load it: {found['refused']}")
            pixels, scores = found["pixels"], found["scores"]
            said, labels = found["said"].tolist(), found["labels"].tolist()
    if not len(pixels):
        return Probed(passed=False, said="none of the probe's images could be labelled")
    wanted = np.asarray(model.predict_on_batch(pixels), np.float32)
    return judge(scores, wanted, said=said, labels=labels)


def _run_lane(settings: Settings, folder: Path, check: Callable[[], None]) -> int:
    """Run the lane to its end: the signal that it died of, 0 where it did what it was to do."""
    log = folder / "probe.log"
    with log.open("wb") as output:
        process = start(
            [sys.executable, "-m", "tagmill_worker", "probe", str(folder)],
            output.fileno(),
            environment={**worker_environment(settings), "TAGMILL_CLASSIFIER": "litert"},
        )
    deadline = time.monotonic() + LONGEST_S
    try:
        while process.poll() is None and time.monotonic() < deadline:
            check()
            with suppress(TimeoutExpired):
                process.wait(_LOOK_S)
        code = process.poll()
    finally:
        end(process, grace_s=0)
    if code is None:
        raise WorkerStopped(f"the probe's lane was not done within {LONGEST_S:.0f} s")
    if code > 0:
        why = last_words(log) or f"exit code {code}"
        raise WorkerStopped(f"the probe's lane stopped: {why}")
    return -code


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
