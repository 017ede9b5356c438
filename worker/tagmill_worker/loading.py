"""Loading model versions: from the registry to the loop that labels with one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import numpy as np

from tagmill.errors import ModelUnavailable, TagmillError
from tagmill.registry import ModelVersion, Registry
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill_worker.chunk import ChunkLoop
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.fetch import Fetch, LocalFetch
from tagmill_worker.hands import unwatched
from tagmill_worker.images import Decoded, Geometry, decode

KEPT_MODELS = 3
"""Model versions that a lane keeps loaded."""


class Loader:
    """Makes the loop for a model version, and keeps the last few.

    Args:
        settings: limits and roots.
        registry: where the models are.
        decode_threads: as `ChunkLoop` takes them.
        holding: as there.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        *,
        decode_threads: int = 0,
        holding: Callable[[int], AbstractContextManager[None]] = unwatched,
    ) -> None:
        self._settings = settings
        self._holding = holding
        self._decode_threads = decode_threads
        self._registry = registry
        self._fetch = Fetch(
            LocalFetch(settings.roots, max_bytes=settings.max_bytes),
            S3(settings),
            max_bytes=settings.max_bytes,
        )
        self._loops: OrderedDict[str, ChunkLoop] = OrderedDict()

    def __call__(self, model: str) -> ChunkLoop:
        """The loop for a model version, loaded if need be.

        Args:
            model: as ``name@number``.

        Raises:
            ModelUnavailable: if it cannot be loaded.
        """
        loop = self._loops.get(model)
        if loop is None:
            loop = self._load(model)
            self._loops[model] = loop
            while len(self._loops) > KEPT_MODELS:
                self._loops.popitem(last=False)
        self._loops.move_to_end(model)
        return loop

    def _load(self, model: str) -> ChunkLoop:
        version = _version(model)
        try:
            return self._load_version(version)
        except TagmillError:
            raise
        except Exception as error:  # a card, labels and network that do not go together
            reason = " ".join(repr(error).split())[:200]
            raise ModelUnavailable(f"model {version} cannot be run: {reason}") from error

    def _load_version(self, version: ModelVersion) -> ChunkLoop:
        labels = self._registry.labels(version)
        card = self._registry.card(version)
        if len(labels) != card.classes:
            raise ModelUnavailable(
                f"model {version} has {card.classes:,} classes and {len(labels):,} labels"
            )
        geometry = Geometry(
            size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio
        )
        loop = ChunkLoop(
            fetch=self._fetch,
            decode=_decoder(geometry, self._settings.max_pixels),
            classifier=load_classifier(
                self._settings.classifier,
                self._registry,
                version,
                batch_size=self._settings.batch_size,
            ),
            labels=labels,
            decode_threads=self._decode_threads,
            holding=self._holding,
        )
        # Once for nothing, so that the first chunk finds it ready.
        scores = loop.classifier.predict(np.zeros((1, geometry.size, geometry.size, 3), np.uint8))
        if scores.shape[1:] != (card.classes,):
            raise ModelUnavailable(
                f"model {version} gives {scores.shape[1:]} scores, its card says {card.classes:,}"
            )
        return loop


def _version(model: str) -> ModelVersion:
    name, _, number = model.rpartition("@")
    return ModelVersion(name=name, number=int(number))


def _decoder(geometry: Geometry, max_pixels: int) -> Callable[[bytes], Decoded]:
    return partial(decode, geometry=geometry, max_pixels=max_pixels)
