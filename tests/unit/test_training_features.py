"""Vectors of images: computed once for each content, whatever some of the images do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmill.drawing import draw_dataset
from tagmill.errors import MissingError
from tagmill.registry import ModelVersion, Registry
from tagmill.settings import Settings
from tagmill.sources import file_uri, file_version
from tagmill_worker.images import decode
from tagmill_worker.training import extracting
from tagmill_worker.training.base import Base, prepare_base
from tagmill_worker.training.cache import VectorCache
from tagmill_worker.training.dataset import Example
from tagmill_worker.training.features import Features, Vectors
from tagmill_worker.training.runtime import frameworks
from tagmill_worker.training.untrained import build_untrained

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's and Keras' own


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("base")
    registry = Registry(folder / "models")
    version = build_untrained(registry, "small", size=32)
    assert version == ModelVersion(name="small", number=1)
    return prepare_base(registry, version, folder / "bases")


@pytest.fixture
def compute(settings: Settings, tmp_path: Path, base: Base) -> Any:
    allowed = settings.model_copy(update={"roots": (tmp_path,), "lanes": 1})
    cache = VectorCache(tmp_path / "vectors.db")

    def computed(paths: list[Path], **more: Any) -> Vectors:
        examples = [
            Example(uri=file_uri(str(p)), version=file_version(str(p)), label="a") for p in paths
        ]
        how: dict[str, Any] = {"progress": lambda *_: None, "check": lambda: None, **more}
        return Features(cache, settings=allowed, **how).of(examples, base.network)

    return computed


def test_vectors_are_those_of_the_network_and_none_is_computed_twice(
    compute: Any, tmp_path: Path, base: Base
) -> None:
    paths = sorted(draw_dataset(tmp_path / "set", range(3)).rglob("*.png"))
    copy = tmp_path / "copy.png"
    shutil.copyfile(paths[0], copy)
    first = compute([*paths, copy])
    assert first.computed == 10
    assert len(first.by_digest) == 9
    assert first.read[0].digest == first.read[-1].digest
    keras, _ = frameworks()
    network = keras.saving.load_model(base.keras_file, compile=False, safe_mode=True)
    pixels = np.stack(
        [decode(p.read_bytes(), base.network.geometry, max_pixels=10_000).pixels for p in paths]
    )
    wanted = np.asarray(network(pixels))
    given = first.of([found.digest for found in first.read[:-1]])
    assert np.abs(given - wanted).max() < 1e-3
    for path in paths:
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
    again = compute([*paths, copy])
    assert again.computed == 0
    assert all(path.stat().st_atime_ns == 0 for path in paths)  # not even read
    paths[0].touch()
    assert compute(paths).by_digest.keys() == again.by_digest.keys()


def test_an_image_that_cannot_be_read_keeps_its_neighbours(compute: Any, tmp_path: Path) -> None:
    paths = sorted(draw_dataset(tmp_path / "set", range(2)).rglob("*.png"))
    paths[1].write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    gone = tmp_path / "gone.png"
    found = compute([*paths, gone])
    assert [bool(read.error) for read in found.read] == [False, True, *[False] * 4, True]
    assert found.read[1].error.startswith("corrupt: ")
    assert found.read[-1].error.startswith("not_found: ")


def test_an_image_that_ends_its_process_is_told_alone(
    compute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = tmp_path / "killer"
    killer.mkdir()
    (killer / "sitecustomize.py").write_text(
        "import os\n"
        "from tagmill_worker.training import extracting\n"
        "decode = extracting.decode\n"
        "def harmful(data, *rest, **more):\n"
        "    if b'harmful' in data:\n"
        "        os._exit(9)\n"
        "    return decode(data, *rest, **more)\n"
        "extracting.decode = harmful\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(killer))
    paths = sorted(draw_dataset(tmp_path / "set", range(2)).rglob("*.png"))
    with paths[3].open("ab") as file:
        file.write(b"harmful")
    found = compute(paths)
    assert [read.error for read in found.read if read.error] == [
        "it ends the process that reads it"
    ]
    assert found.read[3].error


def test_an_image_that_cannot_be_read_for_now_ends_the_work_and_what_was_done_is_kept(
    compute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = tmp_path / "outage"
    outage.mkdir()
    (outage / "sitecustomize.py").write_text(
        "from tagmill.contract import ErrorCode\n"
        "from tagmill.errors import TransientItemError\n"
        "from tagmill_worker.fetch.local import LocalFetch\n"
        "def away(self, path):\n"
        "    raise TransientItemError(ErrorCode.UNAVAILABLE, 'reading failed: no answer')\n"
        "LocalFetch._read = away\n"
    )
    paths = sorted(draw_dataset(tmp_path / "set", range(2)).rglob("*.png"))
    compute(paths[:3])
    with monkeypatch.context() as away:
        away.setenv("PYTHONPATH", str(outage))
        with pytest.raises(MissingError, match=r"cannot be read for now .*no answer.* champion"):
            compute(paths)
    assert compute(paths).computed == 3


def test_what_was_done_before_it_was_cancelled_is_kept(
    compute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cancelled(Exception):
        pass

    monkeypatch.setattr(extracting, "BLOCK_ITEMS", 2)
    paths = sorted(draw_dataset(tmp_path / "set", range(4)).rglob("*.png"))
    told: list[int] = []

    def check() -> None:
        if told[-1] >= 4:
            raise Cancelled

    with pytest.raises(Cancelled):
        compute(paths, progress=lambda done, _: told.append(done), check=check)
    assert 4 <= told[-1] < 12
    assert compute(paths).computed <= 12 - 4
