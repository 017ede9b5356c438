"""The base: a model version without its classes, prepared once for all trainings on it.

A variant sees what the base sees before its last layer, and also what the base itself would call
it: MobileNetV2's thousand classes, their probabilities flattened, tell more from few images than
its features alone. Both come from the same 1280 numbers, so that only those are kept.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.errors import ModelUnavailable
from tagmill.registry import ModelVersion, Registry
from tagmill_worker.images import Geometry
from tagmill_worker.training.extracting import Network
from tagmill_worker.training.runtime import convert, frameworks

UNTRAINED = "untrained"
"""The field of a card that says that the network was trained on nothing."""

FORMAT = 1
"""Of the files here; another one prepares every base anew."""

FEATURE_SCALE, BELIEF_SCALE = 0.1, 3.0
"""How roots of features, and fourth roots of beliefs, are weighted.

On a small set of photographs (four fifths of ``shared/groups``, tried on other photographs)
beliefs at this scale told 0.98 where features alone told 0.93, and features at a tenth took
nothing of that.
"""

# The root of nothing has no slope.
_EPSILON, _LEAST_SCORE = 1e-3, 1e-12


@dataclass(frozen=True, kw_only=True)
class Base:
    """A model version without its classes.

    Attributes:
        version: of the model.
        network: gives the features of an image, on a CPU.
        keras_file: the same as a Keras model.
        kernel: of its classes, float32 ``(features, classes)``; without columns where it has none.
        bias: of the same.
        is_untrained: it was trained on nothing, so that all of it must be.
    """

    version: ModelVersion
    network: Network
    keras_file: Path
    kernel: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    is_untrained: bool = False

    def seen(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What a head is given of features: float32 ``(N, features + classes)``."""
        roots: npt.NDArray[np.float32] = FEATURE_SCALE * np.sqrt(features + np.float32(_EPSILON))
        if not self.kernel.size:
            return roots
        scores = features @ self.kernel + self.bias
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        flat = np.sqrt(np.sqrt(scores + np.float32(_LEAST_SCORE)))
        return np.concatenate([roots, BELIEF_SCALE * flat], axis=1)

    def seen_layers(self, features: Any) -> Any:
        """The same of Keras' symbolic features, in the graph."""
        keras, _ = frameworks()
        ops, layers = keras.ops, keras.layers
        roots = layers.Rescaling(FEATURE_SCALE, name="roots")(ops.sqrt(features + _EPSILON))
        if not self.kernel.size:
            return roots
        dense = layers.Dense(
            self.kernel.shape[1], activation="softmax", name="base_classes", trainable=False
        )
        scores = dense(features)
        dense.set_weights([self.kernel, self.bias])
        flat = ops.sqrt(ops.sqrt(scores + _LEAST_SCORE))
        scaled = layers.Rescaling(BELIEF_SCALE, name="beliefs")(flat)
        return layers.Concatenate(name="seen")([roots, scaled])

    def load(self) -> Any:
        """The network as a Keras model: uint8 images in, features out."""
        keras, _ = frameworks()
        return keras.saving.load_model(self.keras_file, compile=False, safe_mode=True)


def prepare_base(registry: Registry, version: ModelVersion, folder: Path) -> Base:
    """Cut the classes off a model version, unless that was done before.

    Args:
        registry: where it is.
        version: a MobileNetV2: pooled features, then one dense layer.
        folder: that keeps bases.

    Raises:
        ModelUnavailable: if it is not there, or is another network.
    """
    card = registry.card(version)
    is_untrained = bool(card.about.get(UNTRAINED))
    geometry = Geometry(size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio)
    parts = (FORMAT, card.files.get("model.keras"), geometry)
    key = hashlib.sha256(repr(parts).encode()).hexdigest()
    place = folder / key[:16]
    if not (place / "classes.npz").is_file():
        _prepare(registry.verified_file(version, "model.keras"), geometry.size, place)
    with np.load(place / "classes.npz") as classes:
        kernel, bias = classes["kernel"], classes["bias"]
    if is_untrained:
        kernel, bias = kernel[:, :0], bias[:0]  # it believes nothing yet
    return Base(
        version=version,
        network=Network(path=place / "features.tflite", key=key, geometry=geometry),
        keras_file=place / "features.keras",
        kernel=kernel,
        bias=bias,
        is_untrained=is_untrained,
    )


def _prepare(path: Path, size: int, place: Path) -> None:
    keras, _ = frameworks()
    network, top = cut(keras.saving.load_model(path, compile=False, safe_mode=True))
    kernel, bias = top.get_weights()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=place.parent))
        try:
            network.save(building / "features.keras")
            (building / "features.tflite").write_bytes(convert(network, size))
            np.savez(building / "classes.npz", kernel=kernel, bias=bias)
            building.rename(place)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        if (place / "classes.npz").is_file():  # another training was faster: the same base
            return
        raise ModelUnavailable(f"{place} cannot be written: {error.strerror}") from error


def cut(model: Any) -> tuple[Any, Any]:
    """A classifier's network from images to pooled features, and its last layer.

    Raises:
        ModelUnavailable: if it is not built as MobileNetV2 is.
    """
    keras, _ = frameworks()
    inner: Any = next((x for x in model.layers if isinstance(x, keras.Model)), None)
    layers = inner.layers if inner is not None else []
    pooled = [x for x in layers if isinstance(x, keras.layers.GlobalAveragePooling2D)]
    if len(pooled) != 1 or not isinstance(layers[-1], keras.layers.Dense):
        raise ModelUnavailable(
            f"{model.name} is no base: it needs one network inside, with one global average "
            "pooling and one dense layer after it, as mobilenet_v2 has"
        )
    x = model.input
    for layer in model.layers[1 : model.layers.index(inner)]:
        x = layer(x)
    features = keras.Model(inner.input, pooled[0].output, name="base")
    return keras.Model(model.input, features(x), name="features"), layers[-1]
