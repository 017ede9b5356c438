"""Fine-tuning: the top learns, the rest stays, and what was stopped goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmill.contract import ErrorCode, Item
from tagmill.drawing import SHAPES, draw_dataset
from tagmill.errors import MissingError, SourceError, TransientItemError
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import file_uri
from tagmill_worker.fetch import Fetch, Fetched, LocalFetch
from tagmill_worker.images import Geometry
from tagmill_worker.training.dataset import Example
from tagmill_worker.training.fine_tuning import Images, Recipe, fine_tune, predict_logits, thaw
from tagmill_worker.training.runtime import frameworks

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's and Keras' own
SIZE = 16
LABELS = np.repeat([0, 1, 2], 4)


class Stopped(Exception):
    """In place of a kill."""


@pytest.fixture
def images(settings: Settings, tmp_path: Path) -> Images:
    draw_dataset(tmp_path / "set", range(4))
    paths = [path for shape in SHAPES for path in sorted((tmp_path / "set" / shape).iterdir())]
    return Images(
        [Example(uri=file_uri(str(path)), version="", label=path.parent.name) for path in paths],
        fetch=Fetch(LocalFetch([tmp_path], max_bytes=1 << 20), S3(settings), max_bytes=1 << 20),
        geometry=Geometry(size=SIZE),
        settings=settings,
    )


def network() -> Any:
    """As MobileNetV2 is built, with two blocks of a layer each."""
    keras, _ = frameworks()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inner = keras.Input((SIZE, SIZE, 3))
    x = inner
    for number in (15, 16):
        x = layers.Conv2D(4, 3, name=f"block_{number}_expand")(x)
        x = layers.BatchNormalization(name=f"block_{number}_expand_BN")(x)
    x = layers.GlobalAveragePooling2D(name="global_average_pooling2d")(x)
    base = keras.Model(inner, x, name="base")
    outer = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    x = base(layers.Rescaling(1 / 255, dtype="float32")(outer))
    x = layers.Dropout(0.5, seed=0)(x)
    return keras.Model(outer, layers.Dense(3, name="logits")(x))


def tuned(folder: Path, images: Images, *, stop_at: int | None = None) -> Any:
    model = network()

    def moved(done: int, _: int) -> None:
        if done == stop_at:
            raise Stopped

    fine_tune(
        model,
        images,
        LABELS,
        list(range(12)),
        recipe=Recipe(blocks=1, rate=1e-2, epochs=3, batch_size=5),
        folder=folder,
        key="k",
        moved=moved,
        checkpoint_s=0,
    )
    return model


def test_only_the_top_blocks_learn_and_normalisation_stays(images: Images, tmp_path: Path) -> None:
    before, after = network(), tuned(tmp_path / "a", images)
    changed = {
        layer.name
        for layer, old in zip(
            [*after.get_layer("base").layers, after.get_layer("logits")],
            [*before.get_layer("base").layers, before.get_layer("logits")],
            strict=True,
        )
        for new, was in zip(layer.get_weights(), old.get_weights(), strict=True)
        if (new != was).any()
    }
    assert changed == {"block_16_expand", "logits"}
    logits = predict_logits(after, images, range(12), check=lambda: None, batch_size=5)
    assert logits.shape == (12, 3)
    thaw(after, Recipe(blocks=17, normalises=True))
    assert all(layer.trainable for layer in after.get_layer("base").layers)


def test_what_was_stopped_within_an_epoch_ends_with_the_same_weights(
    images: Images, tmp_path: Path
) -> None:
    whole = tuned(tmp_path / "whole", images)
    for stop_at in (2, 7):
        with pytest.raises(Stopped):
            tuned(tmp_path / "stopped", images, stop_at=stop_at)
    resumed = tuned(tmp_path / "stopped", images)
    pairs = zip(whole.get_weights(), resumed.get_weights(), strict=True)
    assert all((a == b).all() for a, b in pairs)


def test_images_are_varied_by_seed_epoch_and_number_alone(images: Images, tmp_path: Path) -> None:
    one = images.varied([3, 5], seed=1, epoch=2)
    assert one.shape == (2, SIZE, SIZE, 3)
    assert (images.varied([5], seed=1, epoch=2)[0] == one[1]).all()
    others = [images.varied([3, 5], seed=1, epoch=epoch) for epoch in range(3, 9)]
    assert any((other != one).any() for other in others)
    (tmp_path / "set" / "disc" / "000.png").unlink()
    with pytest.raises(SourceError, match="cannot any more"):
        images.plain([0])


def test_an_outage_is_told_from_an_image_that_was_taken_away(settings: Settings) -> None:
    tries = []

    def away(item: Item) -> Fetched:
        tries.append(item)
        raise TransientItemError(ErrorCode.UNAVAILABLE, "no answer")

    images = Images(
        [Example(uri="file:///a.png", version="", label="a")],
        fetch=away,
        geometry=Geometry(size=SIZE),
        settings=settings,
    )
    with pytest.raises(MissingError, match=r"/a\.png cannot be read for now"):
        images.plain([0])
    assert len(tries) > 1
