"""Building ``mobilenet_v2@1`` from the ImageNet weights, once for a registry."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from tagmill.errors import ModelUnavailable, VersionTaken
from tagmill.registry import BUILT_IN, ModelVersion, Registry, sha256
from tagmill_worker.images import Geometry
from tagmill_worker.training.making import beside, room
from tagmill_worker.training.runtime import convert

SIZE = 224
"""Pixels: the input of MobileNetV2 as it was trained on ImageNet (arXiv:1801.04381)."""

_WAYS_OUT = (
    "name the weights file with TAGMILL_WEIGHTS=/path/to/weights.h5, "
    "or run once where Keras can download them, "
    "or point TAGMILL_MODELS at a registry that was built elsewhere (here: {place}/{name})"
)


def build(registry: Registry, weights: Path | None) -> ModelVersion:
    """Build the built-in model into a registry, unless it is there.

    Args:
        registry: where to.
        weights: an ``.h5`` file for `keras.applications.MobileNetV2`; ``None`` lets Keras
            download its own.

    Raises:
        ModelUnavailable: if TensorFlow or the weights are not to be had, or are wrong, or the
            registry cannot be written.
        StoreFull: if there is no room left.
    """
    version = ModelVersion(name=BUILT_IN, number=1)
    if registry.holds(version):
        return version
    ways_out = _WAYS_OUT.format(place=registry.place.rstrip("/"), name=BUILT_IN)
    if weights is not None and not weights.is_file():
        raise ModelUnavailable(f"no weights file {weights}: {ways_out}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tensorflow  # noqa: F401  # which Keras loads late, saying less
    except ImportError as error:
        raise ModelUnavailable(
            f"not in {registry.place}, and building it needs {error.name}: "
            "pip install 'tagmill[train]', or point TAGMILL_MODELS at a registry "
            "that was built elsewhere"
        ) from error
    network = _network(keras, weights, ways_out)
    with beside(registry) as building:
        with room(building):
            _write_files(building, keras, network)
            _write_card(building, keras, weights)
        with contextlib.suppress(VersionTaken):  # another process was faster: the same model
            registry.publish(version, building)
    return version


def _network(keras: Any, weights: Path | None, ways_out: str) -> Any:
    try:
        return keras.applications.MobileNetV2(
            input_shape=(SIZE, SIZE, 3), weights=str(weights) if weights else "imagenet"
        )
    except Exception as error:  # Keras lets through what h5py, urllib and it itself raise
        what = f"the weights {weights}" if weights else "the download of the ImageNet weights"
        reason = " ".join(str(error).split())[:200]
        raise ModelUnavailable(f"{what} failed ({reason}): {ways_out}") from error


def _write_files(folder: Path, keras: Any, network: Any) -> None:
    # The scaling to [-1, 1] belongs to the graph, so that no caller can forget it.
    images = keras.Input(shape=(SIZE, SIZE, 3), dtype="uint8", name="images")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(images)
    whole = keras.Model(images, network(scaled), name=BUILT_IN)
    whole.save(folder / "model.keras")
    (folder / "model.tflite").write_bytes(convert(whole, SIZE))
    with as_file(files("tagmill_worker") / "data" / "imagenet_labels.csv") as labels:
        shutil.copyfile(labels, folder / "labels.csv")


def _write_card(folder: Path, keras: Any, weights: Path | None) -> None:
    geometry = Geometry(size=SIZE)
    card = {
        "name": BUILT_IN,
        "version": 1,
        "base": "MobileNetV2 1.0, ImageNet-1k",
        "input_size": geometry.size,
        "geometry": geometry.name,
        "resize_ratio": geometry.resize_ratio,
        "classes": 1000,
        "weights_sha256": sha256(weights) if weights else None,
        "built_with": f"keras {keras.__version__}",
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": {
            name: sha256(folder / name) for name in ("labels.csv", "model.keras", "model.tflite")
        },
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
