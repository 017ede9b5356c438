"""The head of a variant: two dense layers, trained on what the frozen base makes of the images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill_worker.training.fitting import (
    CHECKPOINT_S,
    Batch,
    Checkpoint,
    Plan,
    batches_of,
    class_weights,
    fit,
)
from tagmill_worker.training.runtime import frameworks

_BLOCK = 4_096  # images


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a head is made.

    Attributes:
        units: of the hidden layer.
        dropout: share of them that a step goes without.
        rate: of learning (Adam, arXiv:1412.6980).
        decay: of weights (arXiv:1711.05101).
        most_epochs: of a small set.
        visits: of images, each counted in every epoch: large sets have fewer epochs.
        most_steps: of an epoch; larger sets have larger batches instead.
        refits_below: images; a larger set can spare those by which training is stopped.
        seed: of all that is drawn.
    """

    units: int = 256
    dropout: float = 0.5
    rate: float = 1e-3
    decay: float = 1e-2
    most_epochs: int = 100
    visits: int = 150_000
    most_steps: int = 100
    refits_below: int = 5_000
    seed: int = 0

    def epochs(self, count: int) -> int:
        """Epochs of a set, at the most: 8 to `most_epochs`."""
        return min(max(8, self.visits // count), self.most_epochs)

    def patience(self, count: int) -> int:
        """Epochs without a lower loss on the validation part, after which training stops."""
        return min(max(3, self.epochs(count) // 5), 10)

    def batch_size(self, count: int) -> int:
        """Images of a step: 32 to 512."""
        return min(max(32, count // self.most_steps), 512)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A head.

    Attributes:
        model: Keras': what the base saw in, logits out.
        epochs: that it was trained for.
        losses: on the validation part while that number was looked for.
    """

    model: Any
    epochs: int
    losses: tuple[float, ...]


def train_head(
    seen: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    is_validation: npt.NDArray[np.bool_],
    *,
    classes: int,
    recipe: Recipe,
    folder: Path,
    key: str,
    moved: Callable[[int, int], None],
    checkpoint_s: float = CHECKPOINT_S,
) -> Trained:
    """Train a head: without the validation part until its loss falls no more, and then on all.

    A set of a hundred images cannot spare the fifth by which training is stopped; a large one can.

    Args:
        seen: as `Base.seen` gives it, of the images to train on.
        labels: the number of each one's class.
        is_validation: which say when to stop.
        classes: how many there are.
        recipe: how.
        folder: of checkpoints.
        key: of the dataset and the base.
        moved: as `fit` takes it.
        checkpoint_s: as `Checkpoint` takes it.
    """
    key = hashlib.sha256(repr((key, asdict(recipe), classes)).encode()).hexdigest()
    checkpoint = partial(Checkpoint, key=key, every_s=checkpoint_s)
    plan = partial(_plan, classes=classes, recipe=recipe)
    losses: list[float] = []
    epochs = recipe.epochs(len(labels)) // 2
    if is_validation.any() and not is_validation.all():
        model = new_head(seen.shape[1], classes, recipe)
        first = plan(
            seen,
            labels,
            np.flatnonzero(~is_validation),
            epochs=recipe.epochs(len(labels)),
            validate=partial(_loss, model, seen, labels, np.flatnonzero(is_validation)),
        )
        found = fit(model, first, checkpoint=checkpoint(folder / "search.npz"), moved=moved)
        epochs, losses = found.best_epoch, found.losses
        if len(labels) >= recipe.refits_below:
            return Trained(model=model, epochs=epochs, losses=tuple(losses))
    model = new_head(seen.shape[1], classes, recipe)
    on_all = plan(seen, labels, np.arange(len(labels)), epochs=epochs)
    fit(model, on_all, checkpoint=checkpoint(folder / "head.npz"), moved=moved)
    return Trained(model=model, epochs=epochs, losses=tuple(losses))


def new_head(width: int, classes: int, recipe: Recipe) -> Any:
    """A head that knows nothing, compiled."""
    keras, _ = frameworks()
    drawn = keras.initializers.GlorotUniform
    layers = [
        keras.Input((width,), name="seen"),
        keras.layers.Dense(
            recipe.units, "relu", kernel_initializer=drawn(seed=recipe.seed), name="hidden"
        ),
        keras.layers.Dropout(recipe.dropout, seed=recipe.seed),
        keras.layers.Dense(classes, kernel_initializer=drawn(seed=recipe.seed + 1), name="logits"),
    ]
    model = keras.Sequential(layers, name="head")
    model.compile(
        optimizer=keras.optimizers.AdamW(recipe.rate, weight_decay=recipe.decay),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    return model


def _plan(
    seen: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
    *,
    classes: int,
    recipe: Recipe,
    epochs: int,
    validate: Callable[[], float] | None = None,
) -> Plan:
    size = recipe.batch_size(len(numbers))
    targets = np.eye(classes, dtype=np.float32)
    weights = class_weights(labels[numbers], classes)

    def batches(epoch: int, step: int) -> Iterator[Batch]:
        drawn = batches_of(len(numbers), size, seed=recipe.seed, epoch=epoch, step=step)
        for chosen, counts in drawn:
            some = numbers[chosen]
            yield seen[some], targets[labels[some]], weights[chosen] * counts

    return Plan(
        epochs=epochs,
        steps=-(-len(numbers) // size),
        batches=batches,
        validate=validate,
        patience=recipe.patience(len(numbers)),
        seed=recipe.seed,
    )


def logits_of(
    model: Any, seen: npt.NDArray[np.float32], numbers: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """A head's logits of some images, some thousands at a time: all at once are a copy of them."""
    parts = [np.empty((0, model.output_shape[-1]), np.float32)]
    for start in range(0, len(numbers), _BLOCK):
        some = seen[numbers[start : start + _BLOCK]]
        parts.append(np.asarray(model(some, training=False), np.float32))
    return np.concatenate(parts)


def _loss(
    model: Any,
    seen: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.int64],
) -> float:
    """The mean loss of some images, every class weighing the same."""
    logits = logits_of(model, seen, numbers).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    true = labels[numbers]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(true)), true]
    return float(np.average(losses, weights=class_weights(true, logits.shape[1])))
