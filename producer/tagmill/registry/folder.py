"""A registry in a folder ``NAME/VERSION/`` of files and a card, as both sides read it.

A version never changes once it is there. Building and training versions is the worker's work.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from tagmill.contract import BUILT_IN, SMALL
from tagmill.errors import ModelUnavailable, UnknownModel, VersionTaken
from tagmill.registry.versions import (
    Card,
    ModelVersion,
    parse_model,
    read_card,
    sha256,
    version_of,
)

_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]")


class Registry:
    """A registry in a folder.

    Args:
        folder: need not exist; then the registry is empty.
    """

    is_local = True
    """False where versions are elsewhere and the folder only keeps what was used of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def place(self) -> str:
        """Where the versions are, for people."""
        return str(self.folder)

    def versions(self, name: str = "") -> list[ModelVersion]:
        """All complete versions, by name and number.

        Args:
            name: only of that model.
        """
        found = []
        for card in self.folder.glob(f"{name or '*'}/*/card.json"):
            version = version_of(card.parent.parent.name, card.parent.name)
            if version is not None:
                found.append(version)
        return sorted(found, key=lambda version: (version.name, version.number))

    def resolve(self, text: str) -> ModelVersion:
        """The version that a user means: the one named, or the newest of that name.

        The built-in model resolves even before it is built.

        Raises:
            UnknownModel: if the registry has no such model or version.
        """
        name, number = parse_model(text)
        if number is not None and self.holds(ModelVersion(name=name, number=number)):
            return ModelVersion(name=name, number=number)
        numbers = [version.number for version in self.versions(name)]
        if name == BUILT_IN and 1 not in numbers:
            numbers.append(1)
        if not numbers:
            known = sorted({version.name for version in self.versions()} | {BUILT_IN})
            raise UnknownModel(f"no model {name!r} in {self.place}; there is {', '.join(known)}")
        if number is None:
            return ModelVersion(name=name, number=max(numbers))
        if number not in numbers:
            there = ", ".join(str(n) for n in sorted(numbers))
            raise UnknownModel(f"no version {number} of model {name!r}; there is {there}")
        return ModelVersion(name=name, number=number)

    def path(self, version: ModelVersion) -> Path:
        """The folder of a version, there or not."""
        return self.folder / version.name / str(version.number)

    def where(self, version: ModelVersion) -> str:
        """Where a version is, for people."""
        return str(self.path(version))

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
            return read_card(path)
        except OSError as error:
            raise ModelUnavailable(f"model {version} is not in {self.folder}: {error}") from error

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
                f"{path} has SHA-256 {found}, its card says {said}: {self.way_out(version)}"
            )
        return path

    def way_out(self, version: ModelVersion) -> str:
        """What to do about a version whose files are not what its card says."""
        if version.name == BUILT_IN or not self.is_local:
            return f"remove {self.path(version)} and run 'tagmill models pull {version}'"
        if version.name == SMALL:
            return f"remove {self.path(version)}: the next training from scratch makes it again"
        return f"restore {self.path(version)} from a copy"

    def labels(self, version: ModelVersion) -> list[tuple[str, str]]:
        """The classes of a version in the model's order, as (id, name).

        Raises:
            ModelUnavailable: as `verified_file`, or if the file is not a label file.
        """
        path = self.verified_file(version, "labels.csv")
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            found = [(row["wnid"], row["label"]) for row in rows]
        except KeyError as error:
            raise ModelUnavailable(f"{path} has no column {error}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise ModelUnavailable(f"{path} is no label file: {error!s:.200}") from error
        for number, pair in enumerate(found, 1):
            if any(text is None or _CONTROL.search(text) for text in pair):  # terminals obey them
                raise ModelUnavailable(
                    f"{path} is no label file: its class {number:,} has no name, or one with "
                    "control characters"
                )
        return found

    def publish(self, version: ModelVersion, built: Path) -> None:
        """Make a version part of the registry, whole or not at all.

        Args:
            version: its name.
            built: a folder below the registry's own that holds its files and its card; it is gone
                afterwards.

        Raises:
            VersionTaken: if the registry has that version already.
            ModelUnavailable: if it cannot be written.
        """
        target = self.path(version)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            built.chmod(0o755)  # a temporary folder keeps others out
            built.rename(target)
        except OSError as error:
            if self.holds(version):
                raise VersionTaken(f"{version} is in {self.place} already") from error
            raise ModelUnavailable(f"{target} cannot be written: {error.strerror}") from error
