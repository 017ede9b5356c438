"""Registries of versions that nothing can run: for what reads their names, cards and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tagmill.registry import sha256


def version_in(folder: Path, name: str, number: int, **about: Any) -> Path:
    """Write a version ``name@number`` of two classes into a registry."""
    made = folder / name / str(number)
    made.mkdir(parents=True)
    (made / "labels.csv").write_text("index,wnid,label\n0,a,cat\n1,b,dog\n")
    (made / "model.tflite").write_bytes(b"model")
    card = {
        "name": name,
        "version": number,
        "input_size": 224,
        "geometry": "center_crop",
        "resize_ratio": 256 / 224,
        "classes": 2,
        "files": {file: sha256(made / file) for file in ("labels.csv", "model.tflite")},
        **about,
    }
    (made / "card.json").write_text(json.dumps(card))
    return made
