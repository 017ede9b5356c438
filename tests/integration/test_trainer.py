"""The trainer itself, as far as a dataset takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tagmill.drawing import draw_dataset
from tagmill.errors import ModelUnavailable, SourceError
from tagmill.settings import Settings, load_settings
from tagmill.sources import file_uri
from tagmill.training import TrainingRequest
from tagmill_worker.training.trainer import train


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    return draw_dataset(tmp_path / "drawn", range(10))


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
