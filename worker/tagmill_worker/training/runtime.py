"""Keras and TensorFlow for training: loaded late, and such that a seed gives the same numbers."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from tagmill.errors import ModelUnavailable


@cache
def frameworks() -> tuple[Any, Any]:
    """Keras and TensorFlow, which are slow to load and ship no types.

    Raises:
        ModelUnavailable: if they are not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        raise ModelUnavailable(
            f"training needs {error.name}: pip install 'tagmill[train]'"
        ) from error
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)  # what is drawn without a seed of its own
    return keras, tf


def convert(model: Any, input_size: int) -> bytes:
    """A network as a ``.tflite`` for one image at a time.

    Args:
        model: Keras', uint8 ``(N, H, W, 3)`` in.
        input_size: H and W.

    Raises:
        ModelUnavailable: if lanes' runtime has nothing for one of its layers.
    """
    _, tf = frameworks()
    shape = tf.TensorSpec((1, input_size, input_size, 3), tf.uint8, name="images")
    graph = tf.function(lambda images: model(images, training=False)).get_concrete_function(shape)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], model)
    converter.experimental_lower_to_saved_model = False  # takes four times as long, for the same
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter has errors of its own, and lets others through
        reason = " ".join(str(error).split())[:300]
        raise ModelUnavailable(f"it cannot be converted for lanes: {reason}") from error
