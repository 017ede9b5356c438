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
    """
    keras, tf = frameworks()
    image = keras.Input(batch_shape=(1, input_size, input_size, 3), dtype="uint8", name="images")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, model(image)))
    return bytes(converter.convert())
