"""A new version against the champion, on the holdout of the new one's dataset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tagmill.registry import ModelVersion, Registry
from tagmill_worker.images import Geometry
from tagmill_worker.training.cache import Computed, VectorCache
from tagmill_worker.training.contents import Dataset
from tagmill_worker.training.evaluation import Comparison, compare
from tagmill_worker.training.extracting import Network
from tagmill_worker.training.features import Features
from tagmill_worker.training.making import IMPORTED


def against(
    champion: ModelVersion,
    registry: Registry,
    dataset: Dataset,
    logits: npt.NDArray[np.float32],
    features: Features,
) -> Comparison:
    """Compare a new version with the champion.

    What the champion says of an image is kept, so that it need not say it every night.

    Args:
        champion: the version in use.
        registry: where it is.
        dataset: of the new version.
        logits: of the new version on the holdout.
        features: computes what the champion says.
    """
    labels = [name for _, name in registry.labels(champion)]
    held_out = dataset.numbers(dataset.is_holdout)
    vectors = features.of([dataset.examples[i] for i in held_out], network_of(registry, champion))
    truth = [dataset.classes[dataset.labels[i]] for i in held_out]
    digests = [dataset.digests[i] for i in held_out]
    is_there = np.array([digest in vectors.by_digest for digest in digests])
    said = [
        labels[int(vectors.by_digest[digest].argmax())] if there else ""
        for digest, there in zip(digests, is_there, strict=True)
    ]
    known = set(labels)
    ours = logits.argmax(axis=1) == dataset.labels[dataset.is_holdout]
    theirs = np.array([a == b for a, b in zip(said, truth, strict=True)], np.bool_)
    return compare(
        ours[is_there],
        theirs[is_there],
        name=str(champion),
        unknown=sum(label not in known for label in truth),
        is_imported=IMPORTED in registry.card(champion).about,
    )


def network_of(registry: Registry, version: ModelVersion) -> Network:
    """The network that lanes on a CPU run of a version."""
    card = registry.card(version)
    geometry = Geometry(size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio)
    return Network(
        path=registry.verified_file(version, "model.tflite"),
        key=repr((card.files["model.tflite"], geometry)),
        geometry=geometry,
    )


def remember(
    cache: VectorCache,
    registry: Registry,
    version: ModelVersion,
    dataset: Dataset,
    scores: npt.NDArray[np.float32],
) -> None:
    """Keep what a version says of the holdout: tomorrow it may be the champion."""
    held_out = dataset.numbers(dataset.is_holdout)
    cache.add(
        network_of(registry, version).key,
        [
            Computed(uri="", version="", digest=dataset.digests[number], vector=vector)
            for number, vector in zip(held_out, scores, strict=True)
        ],
    )
