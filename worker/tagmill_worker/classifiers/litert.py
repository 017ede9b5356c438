"""LiteRT with XNNPACK on one thread: the classifier of a CPU lane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter


class LiteRTClassifier:
    """A ``.tflite`` file on one CPU thread.

    One image at a time: the activations of one fit the core's cache, those of a batch do not.

    Args:
        path: takes uint8 ``(1, H, W, 3)`` and gives float32 ``(1, C)``.
    """

    batch_size = 1

    def __init__(self, path: Path) -> None:
        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        output = self._interpreter.get_output_details()[0]
        self._output = output["index"]
        self._classes = int(output["shape"][-1])

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score images, as `Classifier.predict` says."""
        scores = np.empty((len(images), self._classes), np.float32)
        for i in range(len(images)):
            self._interpreter.set_tensor(self._input, images[i : i + 1])
            self._interpreter.invoke()
            scores[i] = self._interpreter.get_tensor(self._output)[0]
        return scores
