"""Model files that are not what their card says, or hold code: refused, and none of it runs."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import hostile
from support.command import Tagmill

from tagmill.errors import ModelUnavailable
from tagmill.registry import ModelVersion, Registry, open_registry, sha256
from tagmill.settings import load_settings
from tagmill_worker.classifiers import load_classifier

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own
BUILT = ModelVersion(name="mobilenet_v2", number=1)
EVIL = ModelVersion(name="evil", number=1)
FILES = {"litert": "model.tflite", "keras": "model.keras"}


def harm(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def harmed(models: Path, tmp_path: Path) -> Path:
    """The version's folder in a registry where a bit of each model was turned."""
    shutil.copytree(models, tmp_path / "harmed")
    folder = Registry(tmp_path / "harmed").path(BUILT)
    for name in FILES.values():
        harm(folder / name)
    return folder


@pytest.mark.parametrize("kind", FILES)
def test_file_of_another_hash_is_not_loaded_from_a_folder(harmed: Path, kind: str) -> None:
    with pytest.raises(ModelUnavailable, match=rf"{FILES[kind]} has SHA-256 .* its card says"):
        load_classifier(kind, Registry(harmed.parent.parent), BUILT)


@pytest.mark.parametrize("kind", FILES)
def test_file_of_another_hash_is_not_loaded_from_s3(
    harmed: Path, bucket: Any, tmp_path: Path, kind: str
) -> None:
    for path in harmed.iterdir():
        bucket.upload_file(str(path), f"models/{BUILT.name}/1/{path.name}")
    settings = load_settings(models=f"s3://{bucket.name}/models", state_dir=tmp_path / "state")
    with pytest.raises(ModelUnavailable, match=rf"{FILES[kind]} has SHA-256 .* says"):
        load_classifier(kind, open_registry(settings), BUILT)


def test_file_that_is_harmed_later_ends_a_run_with_the_reason(
    tagmill: Tagmill, harmed: Path
) -> None:
    folder = tagmill.home / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(hostile.jpeg())
    registry = str(harmed.parent.parent)
    said = tagmill("run", folder, code=3, TAGMILL_MODELS=registry).stderr
    assert "model.tflite has SHA-256" in said
    for command in (["doctor"], ["models", "pull"]):
        assert "has SHA-256" in "".join(outputs(tagmill, command, registry))


def test_what_a_card_says_does_not_speak_to_the_terminal(tagmill: Tagmill, harmed: Path) -> None:
    card = json.loads((harmed / "card.json").read_text())
    card["\x1b]0;evil\x07"] = "\x1b[31m\ud800"
    (harmed / "card.json").write_text(json.dumps(card))
    shown = tagmill("models", "show", "mobilenet_v2", TAGMILL_MODELS=str(harmed.parent.parent))
    assert "\\x1b]0;evil" in shown.stdout
    assert "\x1b" not in shown.stdout


def outputs(tagmill: Tagmill, command: list[str], registry: str) -> tuple[str, str]:
    done = tagmill(*command, code=3, TAGMILL_MODELS=registry)
    return done.stdout, done.stderr


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A folder that is there once code of a model has run."""
    return tmp_path / "mark"


def network(*more: Any) -> Any:
    import keras

    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            *more,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )


def with_lambda(mark: Path) -> Any:
    """A network that makes the mark when it is built or run."""
    import keras

    code = f"lambda x: (__import__('os').makedirs({str(mark)!r}, exist_ok=True), x)[1]"
    return network(keras.layers.Lambda(eval(code), output_shape=(8, 8, 3)))


def is_made(mark: Path) -> bool:
    """True where the mark is there; gone then."""
    there = mark.is_dir()
    if there:
        mark.rmdir()
    return there


def check_refused(path: Path, mark: Path) -> None:
    """A version whose card tells the truth of a file, which a lane loads all the same."""
    registry = Registry(path.parent / "models")
    home = registry.path(EVIL)
    home.mkdir(parents=True)
    shutil.copyfile(path, home / "model.keras")
    card = {
        "input_size": 8, "geometry": "squash", "resize_ratio": 1.0, "classes": 2,
        "files": {"model.keras": sha256(home / "model.keras")},
    }  # fmt: skip
    (home / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelUnavailable, match="model evil@1 cannot be loaded"):
        load_classifier("keras", registry, EVIL)
    assert not is_made(mark)


@pytest.mark.parametrize("name", ["evil.keras", "evil.h5"], ids=["keras", "old-hdf5"])
def test_lambda_in_a_model_file_under_the_name_of_a_keras_file_is_not_run(
    tmp_path: Path, mark: Path, name: str
) -> None:
    import keras

    path = tmp_path / name
    with_lambda(mark).save(path)
    is_made(mark)
    keras.saving.load_model(path, safe_mode=False)(np.zeros((1, 8, 8, 3)))
    assert is_made(mark), "it is live"
    check_refused(path, mark)


def with_weights(folder: Path, name: str, weights: bytes) -> Path:
    """A sound ``.keras`` file, but for its weights."""
    sound, evil = folder / "sound.keras", folder / "evil.keras"
    network().save(sound)
    with zipfile.ZipFile(sound) as from_, zipfile.ZipFile(evil, "w") as to:
        for part in from_.namelist():
            if part != "model.weights.h5":
                to.writestr(part, from_.read(part))
        to.writestr(name, weights)
    return evil


def test_pickled_weights_in_a_keras_file_are_not_loaded(tmp_path: Path, mark: Path) -> None:
    packed = io.BytesIO()
    odd = np.empty(1, dtype=object)
    odd[0] = hostile.Live(mark)
    np.savez(packed, **{"layers/dense/vars/0": odd, "__root__": odd, "vars": odd})
    np.load(io.BytesIO(packed.getvalue()), allow_pickle=True)["vars"]
    assert is_made(mark), "it is live"
    check_refused(with_weights(tmp_path, "model.weights.npz", packed.getvalue()), mark)


def test_pickled_object_in_the_hdf5_of_a_keras_file_is_not_loaded(
    tmp_path: Path, mark: Path
) -> None:
    import h5py

    pickled = pickle.dumps(hostile.Live(mark))
    pickle.loads(pickled)
    assert is_made(mark), "it is live"
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        for n in range(2):
            file[f"layers/dense/vars/{n}"] = np.void(pickled)
    weights = (tmp_path / "weights.h5").read_bytes()
    check_refused(with_weights(tmp_path, "model.weights.h5", weights), mark)


def test_pickle_under_the_name_of_a_model_is_not_loaded(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "evil").write_bytes(pickle.dumps(hostile.Live(mark)))
    check_refused(tmp_path / "evil", mark)
