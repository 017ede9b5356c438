"""Making a version of a classifier that somebody else trained with Keras."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tagmill.errors import ModelUnavailable, SourceError, TagmillError, UsageError
from tagmill.registry import GEOMETRIES, ModelVersion, Registry, sha256
from tagmill.training import clean_label
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.images import Geometry
from tagmill_worker.training.foreign import load_foreign
from tagmill_worker.training.making import IMPORTED, Built, built, check_name, publish, write_card
from tagmill_worker.training.probe import Probed, judge
from tagmill_worker.training.runtime import frameworks
from tagmill_worker.training.scaling import SCALINGS, detect_scaling, pictures

LEAST_SIZE, MOST_SIZE = 32, 1024
_SUMS = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreign:
    """A classifier of somebody else, and what its owner knows of it.

    Attributes:
        path: a ``.keras`` or ``.h5`` file.
        labels: a file of its classes in its order: a line each (``.txt``), a column ``label``
            (``.csv``), or a list, or names by number, or numbers by name (``.json``).
        size: of its input; what the network says where ``None``.
        scaling: one of `SCALINGS`; detected where ``None``.
        geometry: ``center_crop`` or ``squash``: how images were brought to that size in training.
    """

    path: Path
    labels: Path
    size: int | None = None
    scaling: str | None = None
    geometry: str = "center_crop"


def import_classifier(registry: Registry, name: str, foreign: Foreign) -> ModelVersion:
    """Make a version of somebody else's classifier.

    Raises:
        UsageError: if something must be said that the network does not tell.
        ModelUnavailable: if it cannot be run, saying why.
    """
    check_name(name)
    if foreign.geometry not in GEOMETRIES:
        raise UsageError(f"geometry {foreign.geometry!r} is none of {', '.join(GEOMETRIES)}")
    labels = read_labels(foreign.labels)
    try:
        return _imported(registry, name, foreign, labels)
    except TagmillError:
        raise
    except Exception as error:  # what layers raise that nobody has thought of
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelUnavailable(
            f"{foreign.path} cannot be made into a file for lanes: {reason}"
        ) from error


def _imported(
    registry: Registry, name: str, foreign: Foreign, labels: Sequence[str]
) -> ModelVersion:
    network = load_foreign(foreign.path)
    size = _size(network, foreign)
    _check_output(network, foreign.path, labels)
    scaling = _scaling(network, size, foreign)
    model = _wrapped(network, size, scaling, foreign.path)
    geometry = Geometry(size=size, name=foreign.geometry)
    with built(registry, name, model, classes=labels, geometry=geometry) as made:
        probed = _probe(made, model, labels, size)
        if not probed.passed:
            raise ModelUnavailable(f"{foreign.path} cannot be run by lanes: {probed.said}")
        about = {
            IMPORTED: foreign.path.name,
            "imported_sha256": sha256(foreign.path),
            "scaling": scaling,
            "probe": asdict(probed),
        }
        describe = partial(write_card, about=about, classes=len(labels), geometry=geometry)
        describe(made)
        return publish(registry, made, describe)


def read_labels(path: Path) -> list[str]:
    """The classes of a label file, in their order.

    Raises:
        UsageError: if it is none, or names a class twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = _labels_in(path, text)
        labels = [clean_label(label) for label in found]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except SourceError as error:
        raise UsageError(f"{path}: {error}") from error
    except (UnicodeDecodeError, ValueError, csv.Error, RecursionError) as error:
        raise UsageError(f"{path} is no label file: {error!s:.200}") from error
    twice = sorted({label for label in labels if labels.count(label) > 1}) if labels else []
    if len(labels) < 2 or twice:
        what = f"names {', '.join(twice[:5])} twice" if twice else f"names {len(labels)} classes"
        raise UsageError(f"{path} {what}: a classifier has two or more, each once")
    return labels


def _labels_in(path: Path, text: str) -> Sequence[str]:
    if path.suffix == ".txt":
        return [line for line in text.split("\n") if line.strip()]
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        if not rows or "label" not in rows[0]:
            raise ValueError("no column 'label'")
        return _told_apart([(row.get("wnid") or "", row["label"] or "") for row in rows])
    if path.suffix == ".json":
        return _labels_in_json(json.loads(text))
    raise ValueError("it is a .txt, a .csv or a .json")


def _labels_in_json(found: Any) -> Sequence[str]:
    if isinstance(found, list):
        return [_text(number, label) for number, label in enumerate(found)]
    if not isinstance(found, dict):
        raise ValueError("neither a list nor an object")  # noqa: TRY004  # of a file's content
    if all(isinstance(value, int) for value in found.values()):  # as Keras' class_indices
        by_number = {value: key for key, value in found.items()}
    else:  # as Keras' imagenet_class_index
        pairs = {
            key: (value or [None]) if isinstance(value, list) else ["", value]
            for key, value in found.items()
        }
        names = _told_apart(
            [(_text(key, pair[0]), _text(key, pair[-1])) for key, pair in pairs.items()]
        )
        by_number = dict(zip(map(int, found), names, strict=True))
    if sorted(by_number) != list(range(len(found))):
        raise ValueError("its numbers are not 0, 1, 2 and so on, each once")
    return [by_number[number] for number in range(len(found))]


def _text(number: object, label: object) -> str:
    if not isinstance(label, str):
        raise ValueError(f"its class {number!s:.20} is {label!r:.60}, no text")  # noqa: TRY004  # too
    return label


def _told_apart(pairs: Sequence[tuple[str, str]]) -> Sequence[str]:
    """Names of classes by (id, name): ImageNet has two cranes, and their ids tell them apart."""
    often = Counter(name for _, name in pairs)
    return [f"{name} ({wnid})" if wnid and often[name] > 1 else name for wnid, name in pairs]


def _size(network: Any, foreign: Foreign) -> int:
    shape = _shape(network, "input_shape", foreign.path)
    if isinstance(shape, list | dict) or len(shape) != 4 or shape[-1] != 3:
        raise ModelUnavailable(
            f"{foreign.path} is no classifier of RGB images: it takes {shape}, and lanes give "
            "(N, height, width, 3)"
        )
    _, height, width, _ = shape
    if height != width:
        raise ModelUnavailable(f"{foreign.path} takes {height} × {width} pixels, lanes squares")
    if height is None and foreign.size is None:
        raise UsageError(f"{foreign.path} takes images of any size: say which with --input-size")
    if height is not None and foreign.size not in (None, height):
        raise UsageError(f"{foreign.path} takes {height} pixels, not {foreign.size}")
    size = int(height or foreign.size or 0)
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise UsageError(f"{size} pixels: an input may have {LEAST_SIZE} to {MOST_SIZE}")
    return size


def _shape(network: Any, which: str, path: Path) -> Any:
    try:
        return getattr(network, which)
    except AttributeError as error:  # no graph of layers: it runs and tells nothing of itself
        raise ModelUnavailable(
            f"{path} does not tell its {which.replace('_', ' ')}: build it of layers, in Keras' "
            "functional or sequential way"
        ) from error


def _check_output(network: Any, path: Path, labels: Sequence[str]) -> None:
    shape = _shape(network, "output_shape", path)
    if isinstance(shape, list | dict) or len(shape) != 2:
        raise ModelUnavailable(
            f"{path} is no classifier: it gives {shape}, and a classifier one row of scores"
        )
    if shape[1] == 1:
        raise ModelUnavailable(
            f"{path} gives one score, as a network of two classes may: it needs one for each"
        )
    if shape[1] != len(labels):
        raise ModelUnavailable(
            f"{path} gives {shape[1]:,} scores, and its label file has {len(labels):,} classes"
        )


def _scaling(network: Any, size: int, foreign: Foreign) -> str:
    if foreign.scaling is not None:
        if foreign.scaling not in SCALINGS:
            raise UsageError(f"scaling {foreign.scaling!r} is none of {', '.join(SCALINGS)}")
        return foreign.scaling
    found = detect_scaling(network, size)
    if not found:
        raise UsageError(
            f"{foreign.path} does not tell what it expects pixels to be: say the scaling, one of "
            f"{', '.join(SCALINGS)}"
        )
    return found


def _wrapped(network: Any, size: int, scaling: str, path: Path) -> Any:
    """The network from uint8 pixels to scores that add up to 1."""
    keras, _ = frameworks()
    factor, offset = SCALINGS[scaling]
    images = keras.Input((size, size, 3), dtype="uint8", name="images")
    x = keras.layers.Rescaling(factor, offset=offset, dtype="float32")(images)
    (outputs,) = keras.tree.flatten(network(x))  # one, though it may be in a list or a dict
    model = keras.Model(images, outputs, name="imported")
    given = np.asarray(model(pictures(size), training=False), np.float32)
    if not np.isfinite(given).all():
        raise ModelUnavailable(f"{path} gives scores that are no numbers")
    if np.abs(given.sum(axis=1) - 1).max() <= _SUMS and given.min() >= 0:
        return model
    if given.min() >= 0 and given.max() <= 1:
        raise ModelUnavailable(
            f"{path} gives scores that add up to {given.sum(axis=1).min():.2f} and more: each of "
            "its classes is judged by itself, and tagmill's are one of all"
        )
    scores = keras.layers.Softmax(dtype="float32", name="scores")(outputs)
    return keras.Model(images, scores, name="imported")


def _probe(made: Built, model: Any, labels: Sequence[str], size: int) -> Probed:
    images = pictures(size, seed=1)
    scores = load_classifier("litert", made.registry, made.version).predict(images)
    wanted = np.asarray(model.predict_on_batch(images), np.float32)
    said = [labels[i] for i in scores.argmax(axis=1)]
    return judge(scores, wanted, said=said, labels=labels)
