"""The model of a variant: its head is trained on features, and then, if wanted, its base's top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.s3 import S3
from tagmill.training import MOST_BLOCKS, TrainingRequest
from tagmill.version import __version__
from tagmill_worker.fetch import Fetch, LocalFetch
from tagmill_worker.training import fine_tuning
from tagmill_worker.training.base import Base
from tagmill_worker.training.contents import Dataset
from tagmill_worker.training.features import Vectors
from tagmill_worker.training.head import Recipe, logits_of, train_head
from tagmill_worker.training.making import logits_model
from tagmill_worker.training.surroundings import Surroundings

_BLOCK = 4_096  # images
UNTRAINED_RATE, UNTRAINED_EPOCHS = 2e-3, 30


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A model, and what it gives on the holdout.

    Attributes:
        model: Keras', images to logits.
        logits: of the holdout, float32 ``(N, classes)``.
        epochs: that its head was trained for.
        key: of the folder of its checkpoints, which are not needed any more.
    """

    model: Any
    logits: npt.NDArray[np.float32]
    epochs: int
    key: str


def fit_variant(
    request: TrainingRequest, where: Surroundings, base: Base, dataset: Dataset, vectors: Vectors
) -> Fitted:
    """Train a model on a dataset, or go on where that was stopped.

    Args:
        request: what is wanted.
        where: to work.
        base: to stand on.
        dataset: to train on.
        vectors: the base's features of it.
    """
    training = ~dataset.is_holdout
    seen = _seen(base, vectors, dataset, dataset.numbers(training))
    key = repr((__version__, request.name, dataset.fingerprint, base.network.key))
    head = train_head(
        seen,
        dataset.labels[training],
        dataset.is_validation[training],
        classes=len(dataset.classes),
        recipe=Recipe(seed=request.seed),
        moved=partial(where.moved, "head"),
        folder=where.work(key),
        key=key,
        checkpoint_s=where.checkpoint_s,
    )
    model = logits_model(base, base.load(), head.model)
    recipe = _further(request, base)
    if recipe is None:
        seen = _seen(base, vectors, dataset, dataset.numbers(dataset.is_holdout))
        logits = logits_of(head.model, seen, np.arange(len(seen)))
        return Fitted(model=model, logits=logits, epochs=head.epochs, key=key)
    settings = where.settings
    local = LocalFetch(settings.roots, max_bytes=settings.max_bytes)
    images = fine_tuning.Images(
        dataset.examples,
        fetch=Fetch(local, S3(settings), max_bytes=settings.max_bytes),
        geometry=base.network.geometry,
        settings=settings,
    )
    fine_tuning.fine_tune(
        model,
        images,
        dataset.labels,
        dataset.numbers(training),
        recipe=recipe,
        moved=partial(where.moved, "fine_tuning"),
        folder=where.work(key),
        key=key,
        checkpoint_s=where.checkpoint_s,
    )
    held_out = dataset.numbers(dataset.is_holdout)
    logits = fine_tuning.predict_logits(model, images, held_out, check=where.check)
    return Fitted(model=model, logits=logits, epochs=head.epochs, key=key)


def _seen(
    base: Base, vectors: Vectors, dataset: Dataset, numbers: Sequence[int]
) -> npt.NDArray[np.float32]:
    """What a head is given of images, block by block: what lies between is as large again."""
    digests = [dataset.digests[number] for number in numbers]
    width = base.seen(vectors.of(digests[:1])).shape[1]
    seen = np.empty((len(digests), width), np.float32)
    for start in range(0, len(digests), _BLOCK):
        some = digests[start : start + _BLOCK]
        seen[start : start + len(some)] = base.seen(vectors.of(some))
    return seen


def _further(request: TrainingRequest, base: Base) -> fine_tuning.Recipe | None:
    if base.is_untrained:
        return fine_tuning.Recipe(
            blocks=MOST_BLOCKS,
            rate=UNTRAINED_RATE,
            epochs=UNTRAINED_EPOCHS,
            normalises=True,
            seed=request.seed,
        )
    if not request.fine_tune_blocks:
        return None
    return fine_tuning.Recipe(blocks=request.fine_tune_blocks, seed=request.seed)
