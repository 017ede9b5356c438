"""A small MobileNetV2 that was trained on nothing: a base where there are no weights to be had."""

from __future__ import annotations

from tagmill.registry import ModelVersion, Registry
from tagmill_worker.images import Geometry
from tagmill_worker.training.base import UNTRAINED
from tagmill_worker.training.making import built, write_card
from tagmill_worker.training.runtime import frameworks

MOMENTUM = 0.9
"""Of batch normalisation: Keras' 0.999 needs thousands of steps to learn what images are like."""


def build_untrained(
    registry: Registry, name: str, *, size: int = 64, width: float = 0.35, seed: int = 0
) -> ModelVersion:
    """Build a base to train all blocks of, unless the registry has one of that name.

    Args:
        registry: where to.
        name: of the model.
        size: of its input, in pixels.
        width: its layers are that much as wide as MobileNetV2's.
        seed: of its weights.

    Raises:
        ModelUnavailable: if TensorFlow is missing, or it cannot be written.
    """
    version = ModelVersion(name=name, number=1)
    if registry.holds(version):
        return version
    keras, _ = frameworks()
    keras.utils.set_random_seed(seed)
    network = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=width, weights=None, classes=2
    )
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    images = keras.Input((size, size, 3), dtype="uint8", name="images")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(images)
    model = keras.Model(images, network(scaled), name=name)
    geometry = Geometry(size=size)
    with built(registry, name, model, classes=("no", "yes"), geometry=geometry) as made:
        about = {"base": f"MobileNetV2 {width}, trained on nothing", UNTRAINED: True}
        write_card(made, about, classes=2, geometry=geometry)
        registry.publish(version, made.folder)
    return version
