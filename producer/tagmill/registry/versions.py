"""What a version of a model is: its name, its card, and the hashes of its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.contract import BUILT_IN
from tagmill.errors import ModelUnavailable, UnknownModel

GEOMETRIES = ("center_crop", "squash")

_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9_.-]{0,63})(?:@(?P<version>[1-9][0-9]{0,8}))?")
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """One version of a model: ``name@number``."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What a version says of itself.

    Attributes:
        input_size: height and width in pixels of the images that the model takes.
        geometry: how an image is brought to that size: ``center_crop`` or ``squash``.
        resize_ratio: for ``center_crop``, the short side before the crop over ``input_size``;
            256/224 as in the evaluation of the MobileNetV2 paper (arXiv:1801.04381).
        files: SHA-256 of each file by name.
        about: everything else that the builder noted, for people.
    """

    input_size: int
    geometry: str
    resize_ratio: float
    classes: int
    files: dict[str, str]
    about: dict[str, Any]

    @property
    def failed_probe(self) -> bool:
        """True of a version that a lane could not label its probe set with, as it says itself."""
        probe = self.about.get("probe")
        return isinstance(probe, dict) and probe.get("passed") is False

    @property
    def is_imported(self) -> bool:
        """True of a version that somebody else trained."""
        return "imported_from" in self.about


def parse_model(text: str) -> tuple[str, int | None]:
    """Split ``name`` or ``name@7``.

    Raises:
        UnknownModel: if the text is neither.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise UnknownModel(f"{text!r} is no model: write name or name@version, as {BUILT_IN}@1")
    number = match["version"]
    return match["name"], int(number) if number else None


def version_of(name: str, number: str) -> ModelVersion | None:
    """The version of a folder ``NAME/NUMBER``; nothing where the two are none."""
    if number.isdecimal() and _REFERENCE.fullmatch(f"{name}@{number}"):
        return ModelVersion(name=name, number=int(number))
    return None


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        OSError: if it cannot be read.
        ModelUnavailable: if it is not as this release writes it.
    """
    data = path.read_bytes()
    try:
        about = json.loads(data)
        return Card(
            input_size=int(_within(about.pop("input_size"), 8, 4096)),
            geometry=_geometry(about.pop("geometry")),
            resize_ratio=_within(about.pop("resize_ratio"), 1, 8),
            classes=int(_within(about.pop("classes"), 1, 1_000_000)),
            files=_files(about.pop("files")),
            about=about,
        )
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise ModelUnavailable(f"the card {path} cannot be read: {error!r:.300}") from error


def _within(value: Any, least: float, most: float) -> float:
    number = float(value)
    if not least <= number <= most:  # what is no number is refused too
        raise ValueError(f"{value!r} is not within {least} and {most}")
    return number


def _files(hashes: Any) -> dict[str, str]:
    for name, digest in hashes.items():
        if not _FILE.fullmatch(name):  # it becomes a path on this machine
            raise ValueError(f"{name!r} is no name of a file")
        if not isinstance(digest, str):
            raise TypeError(f"the SHA-256 of {name} is no text")
    return dict(hashes)


def _geometry(name: object) -> str:
    if name not in GEOMETRIES:
        raise ValueError(f"geometry {name!r} is none of {', '.join(GEOMETRIES)}")
    return str(name)


def sha256(path: Path | str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
