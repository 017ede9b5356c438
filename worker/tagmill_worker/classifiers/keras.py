"""Keras, on whichever backend is configured: the classifier of a GPU lane."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt


class KerasClassifier:
    """A ``.keras`` file, run in batches of one fixed shape.

    A part of a batch is padded, so that the graph is compiled once.

    Args:
        path: takes uint8 ``(N, H, W, 3)`` and gives float32 ``(N, C)``.
        batch_size: images of a compiled call.
    """

    def __init__(self, path: Path, *, batch_size: int = 32) -> None:
        self.batch_size = batch_size
        self._model = keras.saving.load_model(path, compile=False, safe_mode=True)

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score images, as `Classifier.predict` says."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            missing = self.batch_size - len(part)
            padded = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else part
            scores = np.asarray(self._model.predict_on_batch(padded), dtype=np.float32)
            parts.append(scores[: len(part)])
        return np.concatenate(parts)
