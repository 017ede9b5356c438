"""Somebody else's network: made into a version, or refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tagmill.errors import ModelUnavailable, TagmillError, UsageError
from tagmill.registry import Registry
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.training.importing import Foreign, import_classifier, read_labels
from tagmill_worker.training.runtime import frameworks
from tagmill_worker.training.scaling import detect_scaling, pictures

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's and Keras' own
SIZE = 32


@pytest.fixture(scope="module")
def keras() -> Any:
    return frameworks()[0]


def small(keras: Any, *tail: Any, size: int | None = SIZE) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(4, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3),
            layers.GlobalAveragePooling2D(),
            *(tail or (layers.Dense(3, activation="softmax"),)),
        ]
    )


def labels(folder: Path, *names: str) -> Path:
    path = folder / "labels.txt"
    path.write_text("\n".join(names or ("ant", "bee", "cat, big")) + "\n")
    return path


def test_a_file_of_keras_2_becomes_a_version_that_scores_alike(keras: Any, tmp_path: Path) -> None:
    import h5py

    network = small(keras, keras.layers.Dense(3))  # logits
    path = tmp_path / "theirs.h5"
    network.save(path)
    with h5py.File(path, "r+") as file:  # as Keras 2 wrote it
        config = file.attrs["model_config"]
        old = config.replace('"depth_multiplier"', '"groups": 1, "depth_multiplier"')
        assert old != config
        file.attrs["model_config"] = old
    registry = Registry(tmp_path / "models")
    foreign = Foreign(path=path, labels=labels(tmp_path), scaling="-1..1", geometry="squash")
    version = import_classifier(registry, "theirs", foreign)
    assert str(version) == "theirs@1"
    card = registry.card(version)
    assert (card.input_size, card.geometry, card.classes) == (SIZE, "squash", 3)
    assert registry.labels(version)[2] == ("cat, big", "cat, big")
    images = pictures(SIZE, seed=5)
    logits = np.asarray(network(images / np.float32(127.5) - 1))
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for kind in ("litert", "keras"):
        scores = load_classifier(kind, registry, version).predict(images)
        assert np.abs(scores - wanted).max() < 1e-4, kind


def no_classifier(keras: Any, folder: Path) -> Path:
    small(keras, keras.layers.Reshape((2, 2))).save(folder / "network.keras")
    return folder / "network.keras"


def one_score(keras: Any, folder: Path) -> Path:
    small(keras, keras.layers.Dense(1, activation="sigmoid")).save(folder / "network.keras")
    return folder / "network.keras"


def many_at_once(keras: Any, folder: Path) -> Path:
    small(keras, keras.layers.Dense(3, activation="sigmoid")).save(folder / "network.keras")
    return folder / "network.keras"


def other_count(keras: Any, folder: Path) -> Path:
    small(keras, keras.layers.Dense(4, activation="softmax")).save(folder / "network.keras")
    return folder / "network.keras"


def any_size(keras: Any, folder: Path) -> Path:
    small(keras, size=None).save(folder / "network.keras")
    return folder / "network.keras"


def weights_only(keras: Any, folder: Path) -> Path:
    small(keras).save_weights(folder / "network.weights.h5")
    return folder / "network.weights.h5"


def code(keras: Any, folder: Path) -> Path:
    lambda_layer = keras.layers.Lambda(lambda x: x)
    small(keras, keras.layers.Dense(3), lambda_layer).save(folder / "network.keras")
    return folder / "network.keras"


def code_in_h5(keras: Any, folder: Path) -> Path:
    small(keras, keras.layers.Dense(3), keras.layers.Lambda(lambda x: x)).save(folder / "a.h5")
    return folder / "a.h5"


def code_by_another_name(keras: Any, folder: Path) -> Path:
    path = code_in_h5(keras, folder)
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"].replace('"Lambda"', '"layers.Lambda"')
        file.attrs["model_config"] = config
    return path


def without_shape(keras: Any, folder: Path) -> Path:
    layers = keras.layers
    network = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3)])
    network.save(folder / "network.keras")
    return folder / "network.keras"


def two_inputs(keras: Any, folder: Path) -> Path:
    images, more = keras.Input((SIZE, SIZE, 3)), keras.Input((4,))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    both = keras.layers.Concatenate()([pooled, more])
    keras.Model([images, more], keras.layers.Dense(3)(both)).save(folder / "network.keras")
    return folder / "network.keras"


def no_numbers(keras: Any, folder: Path) -> Path:
    network = small(keras)
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    network.save(folder / "network.keras")
    return folder / "network.keras"


def cut_short(keras: Any, folder: Path) -> Path:
    small(keras).save(folder / "whole.keras")
    (folder / "network.keras").write_bytes((folder / "whole.keras").read_bytes()[:5_000])
    return folder / "network.keras"


def not_there(keras: Any, folder: Path) -> Path:
    return folder / "nothing.keras"


def of_another_kind(keras: Any, folder: Path) -> Path:
    (folder / "network.onnx").write_bytes(b"x")
    return folder / "network.onnx"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_classifier, "no classifier: it gives"),
        (one_score, "gives one score"),
        (many_at_once, "add up to"),
        (other_count, "4 scores, and its label file has 3 classes"),
        (any_size, "images of any size"),
        (weights_only, "weights and no network"),
        (code, r"layers that are code \(Lambda\)"),
        (code_in_h5, r"layers that are code \(Lambda\)"),
        (code_by_another_name, r"layers that are code \(Lambda\)"),
        (without_shape, "does not tell its input shape"),
        (two_inputs, "no classifier of RGB images"),
        (no_numbers, "scores that are no numbers"),
        (cut_short, "no file of Keras 3"),
        (not_there, "No such file"),
        (of_another_kind, "a .keras or a .h5 file"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    keras: Any, tmp_path: Path, make: Any, said: str
) -> None:
    path = make(keras, tmp_path)
    registry = Registry(tmp_path / "models")
    foreign = Foreign(path=path, labels=labels(tmp_path), scaling="0..1")
    with pytest.raises(TagmillError, match=said) as caught:
        import_classifier(registry, "theirs", foreign)
    assert isinstance(caught.value, ModelUnavailable | UsageError)
    assert registry.versions() == []


def test_a_scaling_that_nothing_tells_is_asked_for(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.keras"
    network = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    network.save(path)
    with pytest.raises(UsageError, match="say the scaling"):
        import_classifier(
            Registry(tmp_path / "models"), "theirs", Foreign(path=path, labels=labels(tmp_path))
        )


def test_a_first_convolution_of_something_else_than_pixels_tells_no_scaling(keras: Any) -> None:
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Dense(1),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ]
    )
    assert detect_scaling(network, SIZE) == ""


def test_outputs_in_a_list_are_the_one_that_is_in_it(keras: Any, tmp_path: Path) -> None:
    images = keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    path = tmp_path / "network.keras"
    logits = keras.layers.Dense(3, bias_initializer=keras.initializers.Constant(-3.0))(pooled)
    keras.Model([images], [logits]).save(path)
    foreign = Foreign(path=path, labels=labels(tmp_path), scaling="0..1")
    assert str(import_classifier(Registry(tmp_path / "models"), "theirs", foreign)) == "theirs@1"


def test_the_built_in_model_gets_no_version_of_somebody_else(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.keras"
    small(keras).save(path)
    foreign = Foreign(path=path, labels=labels(tmp_path), scaling="0..1")
    with pytest.raises(UsageError, match="'mobilenet_v2' can be made"):
        import_classifier(Registry(tmp_path / "models"), "mobilenet_v2", foreign)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "ant\nbee\n"),
        ("a.csv", 'index,label\n0,ant\n1,"bee"\n'),
        ("a.json", json.dumps(["ant", "bee"])),
        ("a.json", json.dumps({"bee": 1, "ant": 0})),
        ("a.json", json.dumps({"0": ["n1", "ant"], "1": ["n2", "bee"]})),
    ],
)
def test_label_files_of_many_kinds_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == ["ant", "bee"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "wnid,label\nn1,crane\nn2,ant\nn3,crane\n"),
        ("a.json", json.dumps({"0": ["n1", "crane"], "1": ["n2", "ant"], "2": ["n3", "crane"]})),
    ],
)
def test_classes_of_one_name_are_told_apart_by_their_ids(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == ["crane (n1)", "ant", "crane (n3)"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "ant\n", "names 1 classes"),
        ("a.txt", "ant\nant\n", "names ant twice"),
        ("a.txt", "ant\nb\x1be\n", "control character"),
        ("a.csv", "index,name\n0,ant\n", "no column 'label'"),
        ("a.txt", "ant\nb\x0be\n", "control character"),
        ("a.json", '{"0": "ant", "2": "bee"}', "not 0, 1, 2"),
        ("a.json", '[null, "bee"]', "class 0 is None, no text"),
        ("a.json", '{"0": [], "1": ["n1", "bee"]}', "class 0 is None, no text"),
        ("a.json", '{"0": ["n1", 3], "1": ["n2", "bee"]}', "class 0 is 3, no text"),
        ("a.json", "{", "no label file"),
        ("a.pb", "", "a .txt, a .csv or a .json"),
    ],
)
def test_what_is_no_label_file_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        read_labels(tmp_path / name)


def test_a_registry_that_is_no_folder_is_named(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "network.keras"
    small(keras).save(path)
    models = tmp_path / "models"
    models.write_text("a file where a folder should be")
    foreign = Foreign(path=path, labels=labels(tmp_path), scaling="0..1")
    with pytest.raises(ModelUnavailable, match="cannot be written"):
        import_classifier(Registry(models), "theirs", foreign)
