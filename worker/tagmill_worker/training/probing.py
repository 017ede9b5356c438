"""The lane that a new version is probed in: a process of its own, which knows no TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tagmill.contract import Item
from tagmill.errors import ItemError, ModelUnavailable
from tagmill.registry import open_registry
from tagmill.settings import Settings
from tagmill_worker.loading import Loader


def label_probe(settings: Settings, folder: Path) -> None:
    """Label the images of a probe, and write what came of them.

    Args:
        settings: of the lane; the registry is the one that holds the version.
        folder: has ``probe.json``, the version and ``[uri, version]`` of each image; to it goes
            ``probe.npz``: ``pixels`` uint8 ``(N, H, W, 3)`` and ``scores`` float32 ``(N, C)`` of
            those that could be labelled, ``said`` their best labels, ``labels`` of the version;
            or ``refused``: why the version cannot be loaded.

    Raises:
        OSError: if there is no room for it.
    """
    asked = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
    try:
        loop = Loader(settings, open_registry(settings))(asked["version"])
    except ModelUnavailable as error:
        np.savez(folder / "probe.npz", refused=str(error))
        return
    items = [Item(n=n, uri=uri, version=seen) for n, (uri, seen) in enumerate(asked["images"])]
    images, said = [], []
    for item, outcome in zip(items, loop.run(items, top_k=1).outcomes, strict=True):
        if outcome.labels:
            try:
                images.append(loop.decode(loop.fetch(item).data).pixels)
                said.append(outcome.labels[0].name)
            except ItemError:  # it was taken away since
                continue
    pixels = np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8)
    labels = [name for _, name in loop.labels]
    scores = loop.classifier.predict(pixels) if images else np.zeros((0, len(labels)), np.float32)
    np.savez(folder / "probe.npz", pixels=pixels, scores=scores, said=said, labels=labels)
