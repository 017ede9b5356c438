"""Fitting a model step by step, so that one who is killed and begun again ends with the same.

Whatever is drawn in a step (order, dropout, augmentation) is drawn from the seed and the step's
number alone; a checkpoint holds all else: weights, the optimizer's state, and the best so far.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tagmill.errors import StoreFull
from tagmill_worker.training.runtime import frameworks

log = logging.getLogger(__name__)

CHECKPOINT_S = 20.0
"""Of work, at the most, that is done again after a kill."""

Batch: TypeAlias = tuple[Any, Any, Any]
"""Inputs, targets (one-hot) and weights."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to fit, and on what.

    Attributes:
        epochs: at the most.
        steps: of an epoch.
        batches: an epoch's batches from a step on.
        validate: the loss on what is not trained on; without it all epochs are done.
        patience: epochs without a lower loss after which fitting stops.
        seed: of dropout.
    """

    epochs: int
    steps: int
    batches: Callable[[int, int], Iterator[Batch]]
    validate: Callable[[], float] | None = None
    patience: int = 0
    seed: int = 0


@dataclass(kw_only=True)
class Progress:
    """Where fitting stands.

    Attributes:
        epoch: that is begun, from 0.
        step: of it that comes next.
        losses: on the validation part, one for each epoch.
        best_epoch: the number of epochs after which the loss was lowest.
        is_done: nothing is left to do.
    """

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    is_done: bool = False


class Checkpoint:
    """The file of one fitting.

    Args:
        path: its folder need not exist.
        key: of everything that the fitting depends on, in hex: another one's file is passed over.
        every_s: seconds between two writes.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: str,
        every_s: float = CHECKPOINT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._best = path.with_name(f"{path.stem}-best-{key[:16]}.npz")
        self._key = key
        self._every_s = every_s
        self._clock = clock
        self._written_at = clock()

    def load(self, model: Any) -> Progress:
        """Bring a compiled model to where it was; the beginning where nothing sound is kept."""
        variables = _variables(model)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            with self._path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                about = json.loads(str(kept["about"]))
                values = [kept[f"v{i}"] for i in range(len(variables))]
            if about.pop("key") == self._key and all(
                value.shape == tuple(variable.shape)
                for value, variable in zip(values, variables, strict=True)
            ):
                progress = Progress(**about)
                if progress.losses and not self._best.is_file():
                    return Progress()
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
                log.info("fitting goes on, epoch=%d step=%d", progress.epoch, progress.step)
                return progress
        return Progress()

    def keep_best(self, model: Any) -> None:
        """Keep the weights as the best so far."""
        best = model.get_weights()
        self._write(self._best, {f"w{i}": weights for i, weights in enumerate(best)})

    def load_best(self, model: Any) -> None:
        """Bring a model to the best weights that were kept."""
        with np.load(self._best, allow_pickle=False) as kept:
            model.set_weights([kept[f"w{i}"] for i in range(len(kept.files))])

    def save(self, model: Any, progress: Progress, *, now: bool = False) -> None:
        """Write the file, whole or not at all, if it is time for that.

        Raises:
            StoreFull: if there is no room left.
        """
        if not now and self._clock() - self._written_at < self._every_s:
            return
        about = json.dumps({**vars(progress), "key": self._key})
        arrays = {f"v{i}": np.asarray(v) for i, v in enumerate(_variables(model))}
        self._write(self._path, {**arrays, "about": np.array(about)})
        self._written_at = self._clock()

    def _write(self, path: Path, arrays: dict[str, Any]) -> None:
        output = io.BytesIO()
        np.savez(output, allow_pickle=False, **arrays)
        partial = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(output.getbuffer())
            partial.replace(path)
        except OSError as error:
            raise StoreFull(f"{path} cannot be written: {error.strerror}") from error


def fit(
    model: Any,
    plan: Plan,
    *,
    checkpoint: Checkpoint,
    moved: Callable[[int, int], None],
) -> Progress:
    """Fit a compiled model; with a validation part it ends with the weights that did best on it.

    Args:
        model: Keras', compiled.
        plan: how.
        checkpoint: from which it goes on where it was stopped.
        moved: told the steps done and all at the most, after each; what it raises ends the work.
    """
    progress = checkpoint.load(model)
    while not progress.is_done:
        for batch in plan.batches(progress.epoch, progress.step):
            number = progress.epoch * plan.steps + progress.step
            _seed_dropout(model, plan.seed, number)
            inputs, targets, weights = batch
            model.train_on_batch(inputs, targets, sample_weight=weights)
            progress.step += 1
            checkpoint.save(model, progress)
            moved(number + 1, plan.epochs * plan.steps)
        _end_epoch(plan, progress)
        if plan.validate is not None and progress.best_epoch == progress.epoch:
            checkpoint.keep_best(model)
        checkpoint.save(model, progress, now=progress.is_done)
    if plan.validate is not None:
        checkpoint.load_best(model)
    return progress


def _end_epoch(plan: Plan, progress: Progress) -> None:
    progress.epoch += 1
    progress.step = 0
    if plan.validate is None:
        progress.best_epoch = progress.epoch
    else:
        progress.losses.append(plan.validate())
        progress.best_epoch = int(np.argmin(progress.losses)) + 1
    waited = progress.epoch - progress.best_epoch
    progress.is_done = progress.epoch >= plan.epochs or (
        plan.validate is not None and waited >= plan.patience
    )


def _variables(model: Any) -> list[Any]:
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _seed_dropout(model: Any, seed: int, step: int) -> None:
    keras, _ = frameworks()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([seed, step])


def batches_of(
    count: int, size: int, *, seed: int, epoch: int, step: int
) -> Iterator[tuple[Any, Any]]:
    """The images of each batch of an epoch, from a step on, in an order drawn from its number.

    All batches are of one size, for graphs of two shapes round differently: the last one is filled
    up with images that do not count.

    Yields:
        Numbers of images, and 1 for those that count, else 0 (float32).
    """
    ordered = np.random.default_rng([seed, epoch]).permutation(count)
    for start in range(step * size, count, size):
        places = np.arange(start, start + size)
        yield ordered[places % count], (places < count).astype(np.float32)


def class_weights(labels: Any, classes: int) -> Any:
    """A weight for each image, by which every class weighs the same; float32."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1)))[labels].astype(np.float32)
