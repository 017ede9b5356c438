"""Training: features against labelling, a night that has them against the first, and a variant."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from bench.ground import VERSION, Ground
from bench.steady import steady_rate
from bench.table import Row
from tagmill.registry import ModelVersion
from tagmill.settings import load_settings
from tagmill.sources import file_uri, file_version
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.images import Geometry, decode
from tagmill_worker.training.base import prepare_base
from tagmill_worker.training.cache import VectorCache
from tagmill_worker.training.extracting import extract

PAIRS, ROUNDS = 3, 5
COPIES, NIGHTLY_COPIES = 5, 100
LEAST_FEATURES, LEAST_VARIANT, LEAST_NIGHT = 0.95, 0.95, 5.0
SIDE = 320
"""Pixels of the short side of pictures for whole trainings: many, and not many bytes."""


def rows(ground: Ground) -> Iterator[Row]:
    """Features and labelling in turns; then two trainings; then both versions in turns."""
    yield _features(ground, _photographs(ground, ground.work / "labelled", COPIES))
    many = _photographs(ground, ground.work / "many", NIGHTLY_COPIES, side=SIDE)
    first = _train(ground, many)
    _relabel(many)
    night = _train(ground, many, champion=str(first["version"]))
    yield _night(first, night, sum(1 for _ in many.rglob("*.jpg")))
    yield _variant(ground, ModelVersion(name="bench", number=int(first["version"])))


def _photographs(ground: Ground, folder: Path, copies: int, side: int | None = None) -> Path:
    """A folder per group of the photographs, each several times over with other bytes."""
    with (ground.photos.parent / "photos.csv").open(newline="") as file:
        groups = {row["file"]: row["group"] for row in csv.DictReader(file)}
    for photo in sorted(ground.photos.glob("*.jpg")):
        place = folder / groups[photo.name]
        place.mkdir(parents=True, exist_ok=True)
        data = photo.read_bytes()
        if side is not None:
            data = _smaller(photo, side, folder)
        for copy in range(copies):  # what follows a JPEG's end changes its hash and no pixel
            (place / f"{copy:03}-{photo.name}").write_bytes(data + b"%d" % copy)
    return folder


def _smaller(photo: Path, side: int, folder: Path) -> bytes:
    with Image.open(photo) as image:
        scale = side / min(image.size)
        small = image.convert("RGB").resize([round(x * scale) for x in image.size])
    partial = folder.parent / "small.jpg"
    small.save(partial, quality=85)
    return partial.read_bytes()


def _features(ground: Ground, folder: Path) -> Row:
    settings = load_settings(
        state_dir=ground.work / "features",
        models=str(ground.registry.folder),
        roots=(folder,),
        lanes=ground.lanes,
    )
    base = prepare_base(ground.registry, VERSION, settings.state_dir / "bases")
    paths = [str(path) for path in sorted(folder.rglob("*.jpg"))]
    places = [(file_uri(path), file_version(path)) for path in paths]
    pairs = []
    for turn in range(PAIRS):
        ground.run(f"labelled{turn}", source=str(folder))
        labelling = steady_rate(ground, f"labelled{turn}")
        cache = VectorCache(settings.state_dir / f"vectors{turn}.db")
        done, began = 0, 0.0
        for block in extract(
            places, base.network, settings=settings, cache=cache.path, check=lambda: None
        ):
            cache.add(base.network.key, [one.computed for one in block if one.computed])
            if began:  # as for labelling, the start of processes is left out
                done += len(block)
            else:
                began = time.perf_counter()
        pairs.append((done / (time.perf_counter() - began), labelling))
    ratio = statistics.median(features / labelling for features, labelling in pairs)
    features, labelling = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    return Row(
        what=f"features for training of {len(places):,} photographs, against `tagmill run` over "
        "them, both at work",
        figure=f"{ratio:.3f}",
        wanted=f"≥ {LEAST_FEATURES}",
        holds=ratio >= LEAST_FEATURES,
        detail=f"{features:,.0f} against {labelling:,.0f} images/s, median of {PAIRS} pairs",
    )


def _train(ground: Ground, folder: Path, **more: str) -> dict[str, Any]:
    job = {"name": "bench", "dataset": str(folder), **more}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "bench.train_once", json.dumps(job)],
        env=ground.environment("training"),
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "took_s": time.perf_counter() - began}


def _relabel(folder: Path) -> None:
    """Move one image to another class: the dataset is another, its contents are not."""
    image = next(folder.glob("dog/*.jpg"))
    image.rename(folder / "bird" / image.name)


def _night(first: dict[str, Any], night: dict[str, Any], images: int) -> Row:
    ratio = first["took_s"] / night["took_s"]
    spent = ", ".join(f"{name} {s:.1f}" for name, s in night["spent"].items() if s >= 0.05)
    return Row(
        what=f"training on {images:,} pictures once more with one label changed, all features "
        "cached, against the first time, both with all that belongs to it",
        figure=f"{ratio:.1f}×",
        wanted=f"≥ {LEAST_NIGHT:.0f}×",
        holds=ratio >= LEAST_NIGHT,
        detail=f"{night['took_s']:.1f} against {first['took_s']:.1f} s; of it: {spent} s",
    )


def _variant(ground: Ground, version: ModelVersion) -> Row:
    registry = ground.registry
    card = registry.card(VERSION)
    geometry = Geometry(size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio)
    data = [path.read_bytes() for path in sorted(ground.photos.glob("*.jpg"))]
    both = {which: load_classifier("litert", registry, which) for which in (version, VERSION)}
    spent: dict[ModelVersion, list[float]] = {which: [] for which in both}
    for turn in range(ROUNDS):
        for one in data:
            for which in list(both)[:: -1 if turn % 2 else 1]:
                began = time.perf_counter()
                pixels = decode(one, geometry, max_pixels=1 << 27).pixels
                both[which].predict(pixels[None])
                spent[which].append(time.perf_counter() - began)
    ratio = statistics.median(
        plain / variant for variant, plain in zip(spent[version], spent[VERSION], strict=True)
    )
    variant, plain = (1 / statistics.median(some) for some in spent.values())
    return Row(
        what="labelling by a variant, against `mobilenet_v2`, decoding and prediction on one core",
        figure=f"{ratio:.3f}",
        wanted=f"≥ {LEAST_VARIANT}",
        holds=ratio >= LEAST_VARIANT,
        detail=f"{variant:,.0f} against {plain:,.0f} images/s, median over {len(data):,} "
        f"photographs, {ROUNDS} times each in turns",
    )
