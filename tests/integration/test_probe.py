"""The probe in a real lane: a process of its own, on real photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from bench.faults.customize import path_of

from tagmill.errors import JobCancelled, WorkerStopped
from tagmill.registry import ModelVersion, Registry, sha256
from tagmill.settings import Settings, load_settings
from tagmill.sources import file_uri
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.training.dataset import Example
from tagmill_worker.training.probe import Probed, probe

VERSION = ModelVersion(name="mobilenet_v2", number=1)


class Network:
    """Gives what the version gives, as the network would that it was made of."""

    def __init__(self, registry: Registry) -> None:
        self.predict_on_batch = load_classifier("litert", registry, VERSION).predict


@pytest.fixture
def registry(models: Path, tmp_path: Path) -> Registry:
    return Registry(Path(shutil.copytree(models, tmp_path / "models")))


@pytest.fixture
def lane(photos: list[Path], tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state", roots=(photos[0].parent, tmp_path))


def probed(registry: Registry, lane: Settings, photos: list[Path], **more: Any) -> Probed:
    examples = [Example(uri=file_uri(str(p)), version="", label="?") for p in photos]
    network = Network(registry)
    found = probe(registry, VERSION, network, examples, settings=lane, **more)
    assert not list(registry.folder.glob(".probe-*"))
    return found


def test_version_that_labels_as_its_network_does_has_passed(
    registry: Registry, lane: Settings, photos: list[Path]
) -> None:
    there = [*photos[:8], Path("/nowhere.jpg")]
    assert probed(registry, lane, there) == Probed(passed=True, images=8, agreement=1.0)
    assert "none of the probe's images" in probed(registry, lane, there[-1:]).said


def test_version_that_a_lane_cannot_load_has_failed(
    registry: Registry, lane: Settings, photos: list[Path]
) -> None:
    network = Network(registry)
    path = registry.path(VERSION)
    (path / "model.tflite").write_bytes(b"no model")
    card = json.loads((path / "card.json").read_text())
    card["files"]["model.tflite"] = sha256(path / "model.tflite")
    (path / "card.json").write_text(json.dumps(card))
    example = Example(uri=file_uri(str(photos[0])), version="", label="?")
    found = probe(registry, VERSION, network, [example], settings=lane)
    assert not found.passed
    assert found.said.startswith("a lane cannot load it: ")


def test_lane_that_dies_of_it_ends_no_trainer(
    registry: Registry,
    lane: Settings,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_of("decoder"))
    (tmp_path / "fatal.jpg").write_bytes(photos[0].read_bytes() + b"FAULT:abort")
    found = probed(registry, lane, [tmp_path / "fatal.jpg"])
    assert (found.passed, found.said) == (False, "a lane died of it, killed by SIGABRT")


def test_what_is_no_fault_of_the_version_is_no_verdict(
    registry: Registry, lane: Settings, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled() -> None:
        raise JobCancelled("it was cancelled")

    with pytest.raises(JobCancelled):
        probed(registry, lane, photos[:1], check=cancelled)
    monkeypatch.setenv("TAGMILL_LEASE_S", "long")
    with pytest.raises(WorkerStopped, match="the probe's lane stopped: settings that cannot be"):
        probed(registry, lane, photos[:1])
