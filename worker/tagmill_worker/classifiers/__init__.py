"""Classifiers: from pixels to scores, by the runtime that suits the device."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from tagmill.errors import ModelUnavailable
from tagmill.registry import ModelVersion, Registry


class Classifier(Protocol):
    """A loaded model version.

    Attributes:
        batch_size: images of a call at which it is fastest; it takes any number. May fall.
    """

    batch_size: int

    def predict(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score images.

        Args:
            images: uint8 ``(N, H, W, 3)``, RGB, 0 to 255; scaling is the model's own work.

        Returns:
            float32 ``(N, C)``: one score in [0, 1] per class; the caller's to keep.
        """


def load_classifier(
    kind: str, registry: Registry, version: ModelVersion, *, batch_size: int | None = None
) -> Classifier:
    """Load a model version.

    Args:
        kind: ``litert``, ``keras``, or ``auto``: LiteRT, which is the fastest on a CPU.
        registry: where the version is.
        version: which one.
        batch_size: of Keras; its own where ``None``.

    Raises:
        ModelUnavailable: if its file is missing or wrong, or the runtime is not installed.
    """
    try:
        if kind == "keras":
            from tagmill_worker.classifiers.keras import KerasClassifier

            path = registry.verified_file(version, "model.keras")
            return KerasClassifier(path, batch_size=batch_size)
        from tagmill_worker.classifiers.litert import LiteRTClassifier

        return LiteRTClassifier(registry.verified_file(version, "model.tflite"))
    except ImportError as error:
        extra = "train" if kind == "keras" else "cpu"
        raise ModelUnavailable(
            f"the {kind} classifier needs {error.name}: pip install 'tagmill[{extra}]'"
        ) from error
    except (ValueError, RuntimeError, OSError, TypeError) as error:  # what the runtimes raise
        reason = " ".join(str(error).split())[:200]
        raise ModelUnavailable(f"model {version} cannot be loaded: {reason}") from error
