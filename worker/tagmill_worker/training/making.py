"""Making a version of what was trained: one graph from pixels to scores, its files and its card."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.errors import ModelUnavailable, StoreFull, UsageError, VersionTaken
from tagmill.registry import BUILT_IN, SMALL, ModelVersion, Registry, parse_model, sha256
from tagmill_worker.images import Geometry
from tagmill_worker.training.base import Base
from tagmill_worker.training.runtime import convert, frameworks

FILES = ("labels.csv", "model.keras", "model.tflite")

IMPORTED = "imported_from"
"""The field of a card that says whose file a version was made of, where it was not trained here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """The files of a version that is no part of the registry yet.

    Attributes:
        folder: that holds them, ``NAME/NUMBER`` in a registry of its own.
        registry: that one.
        version: what it would be.
    """

    folder: Path
    registry: Registry
    version: ModelVersion


def check_name(text: str) -> None:
    """Refuse a name that versions cannot be made of.

    Raises:
        UsageError: naming it.
    """
    name, number = parse_model(text)
    if number is not None or name in (BUILT_IN, SMALL):
        raise UsageError(
            f"no version of {text!r} can be made: name a model of your own, without a version"
        )


def logits_model(base: Base, network: Any, head: Any) -> Any:
    """One graph from images to logits.

    Args:
        base: whose features the head was trained on.
        network: from images to features: the base's, or one that was trained further.
        head: as `train_head` gives it; its layers are used, not copied.
    """
    keras, _ = frameworks()
    x = base.seen_layers(network.output)
    for layer in head.layers:
        x = layer(x)
    return keras.Model(network.input, x, name="logits_of_images")


def scores_model(logits: Any, temperature: float) -> Any:
    """The graph that a version is: images to scores, logits divided by the temperature."""
    keras, _ = frameworks()
    cooled = keras.layers.Rescaling(1 / temperature, name="temperature")(logits.output)
    scores = keras.layers.Softmax(name="scores", dtype="float32")(cooled)
    return keras.Model(logits.input, scores, name="variant")


@contextmanager
def built(
    registry: Registry, name: str, model: Any, *, classes: Sequence[str], geometry: Geometry
) -> Iterator[Built]:
    """Write the files of a version beside a registry; they go afterwards, unless published.

    Args:
        registry: that it is meant for.
        name: of the model.
        model: from `scores_model`.
        classes: by name, in the model's order.
        geometry: of its input.

    Raises:
        ModelUnavailable: if they cannot be written.
    """
    version = next_version(registry, name)
    with beside(registry) as scratch:
        staging = Registry(scratch)
        folder = staging.path(version)
        with room(folder):
            folder.mkdir(parents=True)
            model.save(folder / "model.keras")
            (folder / "model.tflite").write_bytes(convert(model, geometry.size))
            _write_labels(folder / "labels.csv", classes)
            made = Built(folder=folder, registry=staging, version=version)
            write_card(made, {}, classes=len(classes), geometry=geometry)
        yield made


@contextmanager
def beside(registry: Registry) -> Iterator[Path]:
    """A folder in that of a registry, for files that are no part of it yet; it goes afterwards.

    Raises:
        ModelUnavailable: if it cannot be made.
    """
    try:
        registry.folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".building-", dir=registry.folder))
    except OSError as error:
        raise ModelUnavailable(
            f"the registry {registry.folder} cannot be written: {error.strerror}"
        ) from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_card(made: Built, about: dict[str, Any], *, classes: int, geometry: Geometry) -> None:
    """Write the card of a version, or write it anew with more in it.

    Args:
        made: whose files are complete.
        about: what people want to know, as JSON has it.
        classes: how many it tells.
        geometry: of its input.
    """
    keras, _ = frameworks()
    card = {
        "name": made.version.name,
        "version": made.version.number,
        "input_size": geometry.size,
        "geometry": geometry.name,
        "resize_ratio": geometry.resize_ratio,
        "classes": classes,
        **about,
        "built_with": f"keras {keras.__version__}",
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": {
            path.name: sha256(path)
            for path in sorted(made.folder.iterdir())
            if path.name != "card.json"
        },
    }
    with room(made.folder):
        partial = made.folder / "card.new"
        partial.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(made.folder / "card.json")


def publish(registry: Registry, made: Built, rewrite_card: Callable[[Built], None]) -> ModelVersion:
    """Make a version part of the registry, under the next number that is free.

    Args:
        registry: where to.
        made: its files.
        rewrite_card: called where another number than its own became free, before it is taken.

    Raises:
        ModelUnavailable: if it cannot be written.
    """
    while True:
        try:
            registry.publish(made.version, made.folder)
            return made.version
        except VersionTaken:  # another training of the same name was faster
            version = next_version(registry, made.version.name)
            made = Built(folder=made.folder, registry=made.registry, version=version)
            rewrite_card(made)


def next_version(registry: Registry, name: str) -> ModelVersion:
    """The version after the newest of a name."""
    numbers = [version.number for version in registry.versions(name)]
    return ModelVersion(name=name, number=max(numbers, default=0) + 1)


def _write_labels(path: Path, classes: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "wnid", "label"])
        writer.writerows([i, label, label] for i, label in enumerate(classes))


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Says which folder it was that had no room, or could not be written.

    Raises:
        StoreFull: for what the system raises.
    """
    try:
        yield
    except OSError as error:
        raise StoreFull(f"{folder} cannot be written: {error.strerror or error}") from error
