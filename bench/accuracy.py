"""How often both classifiers are right on real photographs, and whether they agree."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.ground import VERSION, Ground
from bench.table import Row
from tagmill_worker import images
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.images import Geometry, decode

LEAST, MOST_APART = 0.88, 1e-3
_FILTERS = ("HAMMING", "BILINEAR", "BICUBIC", "LANCZOS", "BOX")


def rows(ground: Ground) -> Iterator[Row]:
    """Label every photograph with both classifiers, then try other geometries and filters."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with (ground.photos.parent / "photos.csv").open(newline="") as file:
        true = {row["file"]: row["wnid"] for row in csv.DictReader(file)}
    paths = sorted(path for path in ground.photos.iterdir() if path.name in true)
    data = [path.read_bytes() for path in paths]
    registry = ground.registry
    card = registry.card(VERSION)
    geometry = Geometry(size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio)
    ids = [class_id for class_id, _ in registry.labels(VERSION)]
    wanted = np.array([ids.index(true[path.name]) for path in paths])
    litert = load_classifier("litert", registry, VERSION)
    pixels = decoded(data, geometry)
    scores = {
        "litert": litert.predict(pixels),
        "keras": load_classifier("keras", registry, VERSION).predict(pixels),
    }
    for kind, found in scores.items():
        right = np.mean(found.argmax(axis=1) == wanted)
        yield Row(
            what=f"top-1 on {len(paths)} photographs with centre crop, `{kind}`",
            figure=f"{right:.3f}",
            wanted=f"≥ {LEAST}",
            holds=bool(right >= LEAST),
        )
    apart = np.abs(scores["litert"] - scores["keras"]).max()
    best = np.sort(scores["keras"], axis=1)
    clear = best[:, -1] - best[:, -2] > MOST_APART
    same = (scores["litert"].argmax(axis=1) == scores["keras"].argmax(axis=1))[clear]
    yield Row(
        what="scores of the two classifiers, farthest apart",
        figure=f"{apart:.1e}",
        wanted=f"≤ {MOST_APART:.0e}, and every top-1 the same but ties",
        holds=bool(apart <= MOST_APART and same.all()),
        detail=f"{same.sum()} of {clear.sum()} clear ones the same",
    )
    for name in _FILTERS:
        found = litert.predict(decoded(data, geometry, name))
        yield _informs(f"`litert`, centre crop, {name.lower()} filter", found, wanted)
    squash = dataclasses.replace(geometry, name="squash")
    yield _informs("`litert`, squash", litert.predict(decoded(data, squash)), wanted)
    plain = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(one)).convert("RGB").resize((224, 224), 0))
            for one in data
        ]
    )
    yield _informs("`litert`, squash as plain `load_img` does", litert.predict(plain), wanted)


def decoded(
    data: list[bytes], geometry: Geometry, resampling: str = "HAMMING"
) -> npt.NDArray[np.uint8]:
    """Images as the model takes them, uint8 ``(N, H, W, 3)``, by a filter of Pillow."""
    kept = images.FILTER
    images.FILTER = Image.Resampling[resampling]
    try:
        return np.stack([decode(one, geometry, max_pixels=1 << 27).pixels for one in data])
    finally:
        images.FILTER = kept


def _informs(what: str, scores: npt.NDArray[np.float32], wanted: npt.NDArray[np.int_]) -> Row:
    right = np.mean(scores.argmax(axis=1) == wanted)
    of_true = scores[np.arange(len(wanted)), wanted].mean()
    return Row(
        what=what, figure=f"{right:.3f}", detail=f"mean score of the true class {of_true:.4f}"
    )
