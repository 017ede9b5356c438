"""Training on real photographs: what was learned holds on others, in a real lane."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from tagmill.contract import Item
from tagmill.registry import ModelVersion, Registry
from tagmill.settings import load_settings
from tagmill.sources import file_uri
from tagmill.training import TrainingRequest
from tagmill_worker.loading import Loader

LEAST_ACCURACY = 0.95


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_six_groups_are_learned_from_a_folder_each(
    photos: list[Path], models: Path, tmp_path: Path
) -> None:
    from tagmill_worker.training.trainer import train

    shared = photos[0].parent.parent
    own = shutil.copytree(models, tmp_path / "models")  # other tests see no version of ours
    settings = load_settings(state_dir=tmp_path / "state", models=str(own), roots=(shared,))
    request = TrainingRequest(name="groups", dataset=str(shared / "groups"))
    stages: list[str] = []
    result = train(request, settings=settings, progress=lambda stage, *_: stages.append(stage))
    assert result.is_better
    assert list(dict.fromkeys(stages)) == [
        "listing", "base", "features", "head", "making", "probe", "report", "done",
    ]  # fmt: skip
    version = ModelVersion(name="groups", number=1)
    registry = Registry(own)
    assert "data:image/jpeg" in registry.verified_file(version, "report.html").read_text()
    assert registry.card(version).about["probe"]["passed"]
    metrics = registry.card(version).about["metrics"]
    assert metrics["calibration_error_after"] <= metrics["calibration_error_before"]
    told = f"{metrics['calibration_error_before']:.3f} before, temperature"
    assert told in registry.verified_file(version, "report.html").read_text()
    with (shared / "photos.csv").open(newline="") as file:
        groups = {row["file"]: row["group"] for row in csv.DictReader(file)}
    classes = {name for _, name in registry.labels(version)}
    wanted = [photo for photo in photos if groups[photo.name] in classes]
    items = [Item(n=n, uri=file_uri(str(p)), version="") for n, p in enumerate(wanted)]
    outcomes = Loader(settings, registry)("groups@1").run(items, top_k=1).outcomes
    right = [
        outcome.labels[0].name == groups[photo.name]
        for outcome, photo in zip(outcomes, wanted, strict=True)
    ]
    assert len(right) == 71
    assert np.mean(right) >= LEAST_ACCURACY
    again = train(request, settings=settings, known_fingerprint=result.fingerprint)
    assert again.version is None
    assert "nothing to do" in again.said
