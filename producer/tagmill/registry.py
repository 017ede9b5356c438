"""The model registry as both sides read it: a folder ``NAME/VERSION/`` of files and a card.

A version never changes once it is there. Building and training versions is the worker's work;
this module names them, finds them and checks them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmill.errors import ModelUnavailable, UnknownModel

BUILT_IN = "mobilenet_v2"
"""The model that tagmill builds itself, from the ImageNet weights, as version 1."""

GEOMETRIES = ("center_crop", "squash")

_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9_.-]{0,63})(?:@(?P<version>[1-9][0-9]{0,8}))?")


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


class Registry:
    """A registry in a folder.

    Args:
        folder: need not exist; then the registry is empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def versions(self) -> list[ModelVersion]:
        """All complete versions, by name and number."""
        found = []
        for card in self.folder.glob("*/*/card.json"):
            name, number = card.parent.parent.name, card.parent.name
            if number.isdecimal() and _REFERENCE.fullmatch(f"{name}@{number}"):
                found.append(ModelVersion(name=name, number=int(number)))
        return sorted(found, key=lambda version: (version.name, version.number))

    def resolve(self, text: str) -> ModelVersion:
        """The version that a user means: the one named, or the newest of that name.

        The built-in model resolves even before it is built.

        Raises:
            UnknownModel: if the registry has no such model or version.
        """
        name, number = parse_model(text)
        numbers = [version.number for version in self.versions() if version.name == name]
        if name == BUILT_IN and 1 not in numbers:
            numbers.append(1)
        if not numbers:
            known = sorted({version.name for version in self.versions()} | {BUILT_IN})
            raise UnknownModel(f"no model {name!r} in {self.folder}; there is {', '.join(known)}")
        if number is None:
            return ModelVersion(name=name, number=max(numbers))
        if number not in numbers:
            there = ", ".join(str(n) for n in sorted(numbers))
            raise UnknownModel(f"no version {number} of model {name!r}; there is {there}")
        return ModelVersion(name=name, number=number)

    def path(self, version: ModelVersion) -> Path:
        """The folder of a version, there or not."""
        return self.folder / version.name / str(version.number)

    def holds(self, version: ModelVersion) -> bool:
        """True where the version is complete: its card is written last."""
        return (self.path(version) / "card.json").is_file()

    def card(self, version: ModelVersion) -> Card:
        """Read a version's card.

        Raises:
            ModelUnavailable: if the card is missing or not as this release writes it.
        """
        path = self.path(version) / "card.json"
        try:
            about = json.loads(path.read_bytes())
            return Card(
                input_size=int(about.pop("input_size")),
                geometry=_geometry(about.pop("geometry")),
                resize_ratio=float(about.pop("resize_ratio")),
                classes=int(about.pop("classes")),
                files=dict(about.pop("files")),
                about=about,
            )
        except OSError as error:
            raise ModelUnavailable(f"model {version} is not in {self.folder}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelUnavailable(f"the card {path} cannot be read: {error!r}") from error

    def verified_file(self, version: ModelVersion, name: str) -> Path:
        """The path of one file of a version, its hash checked against the card.

        Raises:
            ModelUnavailable: if the file is missing or its hash is another.
        """
        path = self.path(version) / name
        said = self.card(version).files.get(name)
        if said is None or not path.is_file():
            raise ModelUnavailable(f"model {version} has no {name} in {path.parent}")
        found = sha256(path)
        if found != said:
            raise ModelUnavailable(
                f"{path} has SHA-256 {found}, its card says {said}: remove {path.parent} "
                f"and run 'tagmill models pull {version}'"
            )
        return path

    def labels(self, version: ModelVersion) -> list[tuple[str, str]]:
        """The classes of a version in the model's order, as (id, name).

        Raises:
            ModelUnavailable: as `verified_file`, or if the file is not a label file.
        """
        path = self.verified_file(version, "labels.csv")
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        try:
            return [(row["wnid"], row["label"]) for row in rows]
        except KeyError as error:
            raise ModelUnavailable(f"{path} has no column {error}") from error


def _geometry(name: object) -> str:
    if name not in GEOMETRIES:
        raise ValueError(f"geometry {name!r} is none of {', '.join(GEOMETRIES)}")
    return str(name)


def sha256(path: Path | str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
