"""The trainer itself, as far as a dataset takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.faults.disk import NoMount, small_disk

from tagmill.drawing import draw_dataset
from tagmill.errors import ModelUnavailable, SourceError, StoreFull
from tagmill.registry import Registry
from tagmill.settings import Settings, load_settings
from tagmill.sources import file_uri
from tagmill.training import TrainingRequest
from tagmill_worker.images import Geometry
from tagmill_worker.training.making import built
from tagmill_worker.training.runtime import frameworks
from tagmill_worker.training.trainer import train


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    return draw_dataset(tmp_path / "drawn", range(10))


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk that has room for next to nothing."""
    try:
        with small_disk(tmp_path / "full", "64k") as folder:
            yield folder
    except NoMount:
        pytest.skip("only root may mount")


def settings_for(tmp_path: Path, **more: str) -> Settings:
    return load_settings(state_dir=tmp_path / "state", roots=(tmp_path,), **more)


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_findings_end_a_strict_training_and_corrections_are_among_what_is_found(
    drawn: Path, tmp_path: Path
) -> None:
    request = TrainingRequest(
        name="shapes", dataset=str(drawn), from_scratch=True, strict=True, with_corrections=True
    )
    discs = sorted((drawn / "disc").iterdir())[:3]
    corrections = {file_uri(str(path)): "ring" for path in discs}
    settings = settings_for(tmp_path)
    with pytest.raises(SourceError, match=r"is to have none: left out, with fewer.*: ring \(3\)"):
        train(request, settings=settings, corrections=corrections)
    assert not list((settings.models_dir / "shapes").glob("*"))


def test_registry_that_cannot_be_written_is_found_before_an_image_is_read(
    drawn: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    stages: list[str] = []
    request = TrainingRequest(name="shapes", dataset=str(drawn), from_scratch=True)
    with pytest.raises(ModelUnavailable, match=r"the registry .*/file/models cannot be written"):
        train(
            request,
            settings=settings_for(tmp_path, models=str(tmp_path / "file" / "models")),
            progress=lambda stage, *_: stages.append(stage),
        )
    assert stages == ["listing", "base"]


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_state_folder_without_room_is_said_and_nothing_is_made(
    drawn: Path, tmp_path: Path, full: Path
) -> None:
    request = TrainingRequest(name="shapes", dataset=str(drawn), from_scratch=True)
    settings = load_settings(
        state_dir=full / "state", models=str(tmp_path / "models"), roots=(tmp_path,)
    )
    with pytest.raises((StoreFull, ModelUnavailable), match=r"full/state.*No space left"):
        train(request, settings=settings)
    assert not (settings.models_dir / "shapes").exists()


@pytest.mark.filterwarnings("ignore")  # as above
def test_registry_without_room_for_a_version_keeps_nothing_of_it(full: Path) -> None:
    keras, _ = frameworks()
    images = keras.Input((32, 32, 3), dtype="uint8", name="images")
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images))
    scores = keras.layers.Dense(20_000, activation="softmax")(pooled)
    registry = Registry(full / "models")
    names = [str(number) for number in range(20_000)]
    with (
        pytest.raises(StoreFull, match=r"full/models/.* cannot be written"),
        built(
            registry,
            "shapes",
            keras.Model(images, scores),
            classes=names,
            geometry=Geometry(size=32),
        ),
    ):
        pytest.fail("it was made")
    assert not list(registry.folder.iterdir())
