"""Both classifiers on real photographs: they see the same, and it is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tagmill.registry import ModelVersion, Registry
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.images import Geometry, decode

VERSION = ModelVersion(name="mobilenet_v2", number=1)


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_litert_and_keras_agree_and_are_right(
    photos: list[Path], classes: dict[str, str], models: Path
) -> None:
    registry = Registry(models)
    card = registry.card(VERSION)
    geometry = Geometry(size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio)
    images = np.stack(
        [decode(path.read_bytes(), geometry, max_pixels=1 << 27).pixels for path in photos]
    )
    litert = load_classifier("litert", registry, VERSION).predict(images)
    keras = load_classifier("keras", registry, VERSION).predict(images)
    assert litert.shape == keras.shape == (200, 1000)
    assert litert.dtype == keras.dtype == np.float32
    assert np.abs(litert - keras).max() < 1e-3
    top = np.sort(keras, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-3
    assert (litert.argmax(axis=1) == keras.argmax(axis=1))[clear].all()
    ids = [wnid for wnid, _ in registry.labels(VERSION)]
    for scores in (litert, keras):
        right = [
            ids[row.argmax()] == classes[path.name]
            for row, path in zip(scores, photos, strict=True)
        ]
        assert np.mean(right) >= 0.88


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own
def test_a_network_tells_what_it_expects_pixels_to_be(models: Path) -> None:
    from tagmill_worker.training.foreign import load_foreign
    from tagmill_worker.training.runtime import frameworks
    from tagmill_worker.training.scaling import detect_scaling

    model = load_foreign(Registry(models).path(VERSION) / "model.keras")
    assert detect_scaling(model, 224) == "inside"
    network = model.layers[-1]
    assert detect_scaling(network, 224) == "-1..1"
    keras, _ = frameworks()
    first = next(x for x in network.layers if isinstance(x, keras.layers.Conv2D))
    after = next(x for x in network.layers if isinstance(x, keras.layers.BatchNormalization))
    (kernel,), (gamma, beta, mean, variance) = first.get_weights(), after.get_weights()
    after.set_weights([gamma, beta, mean + kernel.sum(axis=(0, 1, 2)), variance])
    for scaling, factor in (("0..1", 2.0), ("inside", 1 / 127.5)):  # the same network, of others
        first.set_weights([kernel * factor])
        assert detect_scaling(network, 224) == scaling
