"""Keras, on whichever backend is configured: the classifier of a GPU lane."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tagmill.errors import ModelUnavailable
from tagmill_worker.devices import is_given_a_gpu

log = logging.getLogger(__name__)

GPU_BATCH, CPU_BATCH = 64, 32

_OUT_OF_MEMORY = frozenset({"ResourceExhaustedError", "OutOfMemoryError"})
"""What TensorFlow and PyTorch call it; JAX and CUDA have words in a message."""


class KerasClassifier:
    """A ``.keras`` file, run as a compiled graph in batches of one fixed shape.

    A part of a batch is padded, so that the graph is compiled once; pixels go to the device as
    they are. On a GPU it computes in 16-bit floats, and gives its scores in 32. Where the device
    has no room for a batch, smaller ones are made from then on.

    Args:
        path: takes uint8 ``(N, H, W, 3)`` and gives float32 ``(N, C)``.
        batch_size: images of a compiled call; what suits the device where ``None``.
        is_mixed: compute in 16-bit floats; what suits the device where ``None``.
    """

    def __init__(
        self, path: Path, *, batch_size: int | None = None, is_mixed: bool | None = None
    ) -> None:
        device = _device()
        is_on_gpu = "gpu" in device or "cuda" in device
        self.batch_size = batch_size or (GPU_BATCH if is_on_gpu else CPU_BATCH)
        self._model = keras.saving.load_model(path, compile=False, safe_mode=True)
        if is_on_gpu if is_mixed is None else is_mixed:
            _compute_in_16_bits(self._model)
        if is_given_a_gpu() and not is_on_gpu:
            log.error(
                "Keras finds no GPU by its backend %s, and labels on the CPU: is the backend "
                "built for this driver?",
                keras.backend.backend(),
            )
        log.info(
            "keras backend=%s device=%s batch_size=%d", keras.backend.backend(), device,
            self.batch_size,
        )  # fmt: skip

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score images, as `Classifier.predict` says.

        Raises:
            ModelUnavailable: if the device has no room even for one image.
        """
        parts = [np.empty((0, int(self._model.output_shape[-1])), np.float32)]
        start = 0
        while start < len(images):
            part = images[start : start + self.batch_size]
            try:
                parts.append(self._scores(part))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
                continue
            start += len(part)
        return np.concatenate(parts)

    def _scores(self, part: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        missing = self.batch_size - len(part)
        padded = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else part
        scores = np.asarray(self._model.predict_on_batch(padded), dtype=np.float32)
        return scores[: len(part)]

    def _halve(self, error: Exception) -> None:
        if self.batch_size == 1:
            reason = " ".join(str(error).split())[:200]
            raise ModelUnavailable(f"no memory on the device for one image: {reason}") from error
        log.warning(
            "no memory on the device for %d images at once: %d from now on",
            self.batch_size,
            self.batch_size // 2,
        )
        self.batch_size //= 2


def _device() -> str:
    """Where the backend puts what nobody places: every backend tells it of a tensor."""
    return str(getattr(keras.ops.zeros(1), "device", "cpu")).lower().rpartition("/")[2]


def is_out_of_memory(error: BaseException) -> bool:
    """True for what TensorFlow, JAX and PyTorch raise where the device has no room."""
    names = {kind.__name__ for kind in type(error).__mro__}
    said = str(error)
    return bool(
        names & _OUT_OF_MEMORY or "RESOURCE_EXHAUSTED" in said or "out of memory" in said.lower()
    )


def _compute_in_16_bits(model: Any) -> None:
    """Have all layers compute in 16 bits but those that scale the pixels and give the scores.

    Weights stay in 32 bits. Of the scores 16 bits would leave three digits.
    """
    last = set(getattr(model, "output_names", ()) or [model.layers[-1].name])
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _compute_in_16_bits(layer)
        elif not isinstance(layer, keras.layers.InputLayer | keras.layers.Rescaling):
            layer.dtype_policy = "float32" if layer.name in last else "mixed_float16"
