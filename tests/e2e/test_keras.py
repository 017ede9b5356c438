"""The classifier of a GPU lane, as far as a CPU can show it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmill.errors import ModelUnavailable
from tagmill.registry import ModelVersion, Registry
from tagmill_worker.images import Geometry, decode

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own
VERSION = ModelVersion(name="mobilenet_v2", number=1)


@pytest.fixture(scope="module")
def make(models: Path) -> Callable[..., Any]:
    from tagmill_worker.classifiers.keras import KerasClassifier

    path = Registry(models).verified_file(VERSION, "model.keras")
    return lambda **given: KerasClassifier(path, **given)


@pytest.fixture(scope="module")
def images(photos: list[Path]) -> np.ndarray:
    return np.stack(
        [decode(p.read_bytes(), Geometry(size=224), max_pixels=1 << 27).pixels for p in photos[:40]]
    )


@pytest.fixture(scope="module")
def plain(make: Callable[..., Any], images: np.ndarray) -> np.ndarray:
    """The scores in 32 bits."""
    classifier = make(is_mixed=False)
    assert classifier.batch_size == 32, "what suits a CPU"
    return classifier.predict(images)


def test_sixteen_bit_floats_see_the_same(
    make: Callable[..., Any], images: np.ndarray, plain: np.ndarray
) -> None:
    classifier = make(batch_size=16, is_mixed=True)
    inner = next(layer for layer in classifier._model.layers if hasattr(layer, "layers"))
    computed = {layer.compute_dtype for layer in inner.layers[1:-1]}
    assert (computed, inner.layers[-1].compute_dtype) == ({"float16"}, "float32")
    scores = classifier.predict(images)
    assert scores.dtype == np.float32
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert np.abs(scores.sum(axis=1) - 1).max() < 1e-4
    assert np.abs(scores - plain).max() > 0, "it did compute in 16 bits"
    assert np.abs(scores - plain).max() < 0.05
    top = np.sort(plain, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.05
    assert clear.sum() > 20
    assert (scores.argmax(axis=1) == plain.argmax(axis=1))[clear].all()


class ResourceExhaustedError(Exception):
    """Of the name that TensorFlow gives it."""


class XlaRuntimeError(Exception):
    """Of the name that JAX gives everything."""


@pytest.mark.parametrize(
    "error",
    [
        ResourceExhaustedError("OOM"),
        XlaRuntimeError("RESOURCE_EXHAUSTED: no room"),
        RuntimeError("CUDA error: out of memory"),
    ],
    ids=["tensorflow", "jax", "torch"],
)
def test_device_without_room_gets_smaller_batches_and_every_image_its_scores(
    make: Callable[..., Any],
    images: np.ndarray,
    plain: np.ndarray,
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    classifier = make(batch_size=16)
    network = classifier._model.predict_on_batch
    shapes: list[tuple[str, int]] = []

    def cramped(batch: np.ndarray) -> np.ndarray:
        shapes.append((str(batch.dtype), len(batch)))
        if len(batch) > 4:
            raise error
        return network(batch)

    classifier._model.predict_on_batch = cramped
    with caplog.at_level(logging.WARNING):
        scores = classifier.predict(images[:10])
    assert np.abs(scores - plain[:10]).max() < 1e-5
    assert shapes == [("uint8", n) for n in (16, 8, 4, 4, 4)], "padded, and small from then on"
    assert classifier.batch_size == 4
    said = [record.args for record in caplog.records if record.name.startswith("tagmill")]
    assert said == [(16, 8), (8, 4)]


def test_device_without_room_for_one_image_is_said(
    make: Callable[..., Any], images: np.ndarray
) -> None:
    classifier = make(batch_size=2)

    def full(_: np.ndarray) -> np.ndarray:
        raise ResourceExhaustedError("OOM")

    classifier._model.predict_on_batch = full
    with pytest.raises(ModelUnavailable, match="no memory on the device for one image: OOM"):
        classifier.predict(images[:2])


def test_other_faults_of_the_runtime_are_left_as_they_are(
    make: Callable[..., Any], images: np.ndarray
) -> None:
    classifier = make(batch_size=2)

    def broken(_: np.ndarray) -> np.ndarray:
        raise XlaRuntimeError("INTERNAL: oh")

    classifier._model.predict_on_batch = broken
    with pytest.raises(XlaRuntimeError):
        classifier.predict(images[:2])
    assert classifier.batch_size == 2


@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_number_of_images_is_taken(
    make: Callable[..., Any], images: np.ndarray, plain: np.ndarray, count: int
) -> None:
    scores = make(batch_size=2).predict(images[:count])
    assert scores.shape == (count, 1000)
    assert np.allclose(scores, plain[:count], atol=1e-5)
