"""Training the top blocks of the base too, on images that are flipped and cropped by chance."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tagmill.contract import Item
from tagmill.errors import ItemError, SourceError, TransientItemError
from tagmill.settings import Settings
from tagmill.sources import readable
from tagmill_worker.fetch import Fetched
from tagmill_worker.images import Geometry, decode
from tagmill_worker.patience import Patience
from tagmill_worker.training.dataset import Example
from tagmill_worker.training.fitting import Batch, Checkpoint, Plan, batches_of, class_weights, fit
from tagmill_worker.training.outage import away, patient
from tagmill_worker.training.runtime import frameworks

_BLOCK = re.compile(r"block_(\d+)_")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a base is trained further.

    Attributes:
        blocks: of it, counted from the top.
        rate: of learning; low, for the base knows much already.
        epochs: as many are done.
        batch_size: images of a step.
        normalises: batch normalisation learns too, as a base needs that was trained on nothing.
        seed: of order, flips and crops.
    """

    blocks: int
    rate: float = 1e-5
    epochs: int = 5
    batch_size: int = 32
    normalises: bool = False
    seed: int = 0


class Images:
    """Reads images as training wants them.

    Args:
        examples: by number.
        fetch: their bytes.
        geometry: of the model.
        settings: limits.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        fetch: Callable[[Item], Fetched],
        geometry: Geometry,
        settings: Settings,
    ) -> None:
        self._examples = examples
        self._fetch = fetch
        self._geometry = geometry
        self._max_pixels = settings.max_pixels
        # What a crop may be taken from: as the model sees an image, and what it cuts off.
        self._wider = replace(
            geometry, size=round(geometry.size * geometry.resize_ratio), resize_ratio=1.0
        )
        self._threads = ThreadPoolExecutor(settings.lane_count, thread_name_prefix="decode")

    def plain(self, numbers: Sequence[int]) -> Pixels:
        """Images as they are labelled, uint8 ``(N, H, W, 3)``.

        Raises:
            SourceError: if one cannot be read any more.
            MissingError: if one cannot be read for now.
        """
        read = partial(self._read, patient(self._fetch), self._geometry)
        return np.stack(list(self._threads.map(read, numbers)))

    def varied(self, numbers: Sequence[int], *, seed: int, epoch: int) -> Pixels:
        """The same, cropped and flipped by what the seed, the epoch and the number give."""
        fetch = patient(self._fetch)

        def one(number: int) -> Pixels:
            drawn = np.random.default_rng([seed, epoch, number])
            wide, size = self._read(fetch, self._wider, number), self._geometry.size
            top, left = drawn.integers(0, len(wide) - size + 1, 2)
            pixels = wide[top : top + size, left : left + size]
            return pixels[:, ::-1] if drawn.random() < 0.5 else pixels

        return np.stack(list(self._threads.map(one, numbers)))

    def _read(self, fetch: Patience, geometry: Geometry, number: int) -> Pixels:
        example = self._examples[number]
        item = Item(n=number, uri=example.uri, version=example.version)
        try:
            return decode(fetch(item).data, geometry, max_pixels=self._max_pixels).pixels
        except TransientItemError as error:
            raise away(example.uri, error) from error
        except ItemError as error:
            raise SourceError(
                f"{readable(example.uri)} could be read before and cannot any more "
                f"({error.message}): begin again when the dataset is left alone"
            ) from error


def fine_tune(
    model: Any,
    images: Images,
    labels: npt.NDArray[np.int64],
    numbers: Sequence[int],
    *,
    recipe: Recipe,
    folder: Path,
    key: str,
    moved: Callable[[int, int], None],
    checkpoint_s: float,
) -> None:
    """Train the top of a model on images, in place.

    Args:
        model: from `logits_model`: images to logits.
        images: of the dataset.
        labels: the number of each one's class.
        numbers: of the images to train on.
        recipe: how.
        folder: of the checkpoint.
        key: of all that the model was made of so far.
        moved: as `fit` takes it.
        checkpoint_s: as `Checkpoint` takes it.
    """
    keras, _ = frameworks()
    thaw(model, recipe)
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    classes = model.output_shape[-1]
    chosen = np.array(numbers)
    targets = np.eye(classes, dtype=np.float32)
    weights = class_weights(labels[chosen], classes)

    def batches(epoch: int, step: int) -> Iterator[Batch]:
        size, seed = recipe.batch_size, recipe.seed
        for some, counts in batches_of(len(chosen), size, seed=seed, epoch=epoch, step=step):
            pixels = images.varied(chosen[some].tolist(), seed=seed, epoch=epoch)
            yield pixels, targets[labels[chosen[some]]], weights[some] * counts

    plan = Plan(
        epochs=recipe.epochs,
        steps=-(-len(chosen) // recipe.batch_size),
        batches=batches,
        seed=recipe.seed,
    )
    key = hashlib.sha256(repr((key, asdict(recipe))).encode()).hexdigest()
    checkpoint = Checkpoint(folder / "fine_tuning.npz", key=key, every_s=checkpoint_s)
    fit(model, plan, checkpoint=checkpoint, moved=moved)


def thaw(model: Any, recipe: Recipe) -> None:
    """Let the top blocks of a model learn, and nothing else of its base."""
    keras, _ = frameworks()
    (base,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    numbers = {layer.name: _block(layer.name) for layer in base.layers}
    lowest = max(numbers.values()) - recipe.blocks
    for layer in base.layers:
        is_normalising = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = numbers[layer.name] > lowest and (recipe.normalises or not is_normalising)
    for layer in model.layers:
        if layer.name == "base_classes":
            layer.trainable = False


def _block(name: str) -> int:
    """Which inverted residual a layer belongs to; what comes after them belongs to the last."""
    if found := _BLOCK.match(name):
        return int(found[1])
    return 16 if name.startswith(("Conv_1", "out_relu", "global_average")) else 0


def predict_logits(
    model: Any,
    images: Images,
    numbers: Sequence[int],
    *,
    check: Callable[[], None],
    batch_size: int = 32,
) -> npt.NDArray[np.float32]:
    """A model's logits of images as they are labelled."""
    parts = [np.empty((0, model.output_shape[-1]), np.float32)]
    for start in range(0, len(numbers), batch_size):
        check()
        pixels = images.plain(numbers[start : start + batch_size])
        parts.append(np.asarray(model(pixels, training=False), np.float32))
    return np.concatenate(parts)
