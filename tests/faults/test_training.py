"""A trainer that is killed goes on, and ends with what it would have ended with undisturbed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from support import training

from tagmill.drawing import draw_dataset
from tagmill.registry import ModelVersion, Registry

SMALL = 32
"""Pixels: the smallest input that MobileNetV2 takes."""

KILLED_AT = (("head", 6), ("head", 14), ("probe", 0))


def started(request: training.TrainingRequest, state: Path) -> subprocess.Popen[str]:
    return training.start(request, state, small=SMALL, untrained=False)


def finished(request: training.TrainingRequest, state: Path) -> dict[str, Any]:
    process = started(request, state)
    told = list(training.steps(process))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors[-2000:]
    result: dict[str, Any] = told[-1]["result"]
    return result


def killed(request: training.TrainingRequest, state: Path, stage: str, done: int) -> list[int]:
    """Kill a training at a step; the steps of that stage that it told until then."""
    process = started(request, state)
    told = []
    for step in training.steps(process):
        assert "result" not in step
        if step["stage"] == stage:
            told.append(step["done"])
            if step["done"] >= done:
                break
    process.kill()
    _, errors = process.communicate(timeout=60)
    assert told, errors[-2000:]
    return told


def test_killed_three_times_a_training_ends_with_the_same_metrics(tmp_path: Path) -> None:
    request = training.TrainingRequest(
        name="shapes", dataset=str(draw_dataset(tmp_path / "set", range(20)))
    )
    undisturbed = finished(request, tmp_path / "undisturbed")
    state = tmp_path / "killed"
    shutil.copytree(tmp_path / "undisturbed", state)
    shutil.rmtree(state / "models" / "shapes")
    first, second, _ = (killed(request, state, *when) for when in KILLED_AT)
    assert first[0] == 1
    assert second[0] > 5  # it goes on where it was
    result = finished(request, state)
    assert result["about"]["metrics"] == undisturbed["about"]["metrics"]
    assert result["fingerprint"] == undisturbed["fingerprint"]
    once = [ModelVersion(name="shapes", number=1)]
    assert Registry(state / "models").versions("shapes") == once
    again = finished(request, state)
    assert again["version"] == 1  # and is not made a second time, which it says
    assert again["said"].startswith("it is shapes@1 again, made of the same dataset")
    assert Registry(state / "models").versions("shapes") == once
