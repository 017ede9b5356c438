"""A registry under an S3 prefix, and the folder that keeps what was used of it.

A version never changes, so that what the folder keeps of it stands without asking S3 again; the
SHA-256 of each file is compared with the card whenever the file is used, as in any registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tagmill.contract import ErrorCode
from tagmill.errors import (
    ItemError,
    ModelAway,
    ModelUnavailable,
    SourceError,
    TransientItemError,
    VersionTaken,
)
from tagmill.registry.folder import Registry
from tagmill.registry.versions import Card, ModelVersion, read_card, sha256, version_of
from tagmill.s3 import S3, parse_s3_uri, s3_uri

MOST_PUBLISH_S = 300.0
"""For how long another publisher is waited for; one that takes longer has died."""

POLL_S = 2.0

_CARD, _MARK = "card.json", "publishing"


class BucketRegistry(Registry):
    """A registry under an S3 prefix. Several processes may share its cache.

    Args:
        uri: ``s3://bucket/prefix``.
        s3: where the bucket is.
        cache: below which a folder keeps what was used of this registry.
        sleep: waits that many seconds.
    """

    is_local = False

    def __init__(
        self,
        uri: str,
        *,
        s3: S3,
        cache: Path,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket, prefix = parse_s3_uri(uri)
        self._prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        self._s3 = s3
        self._sleep = sleep
        name = hashlib.sha256(self._prefix.encode()).hexdigest()[:16]
        super().__init__(cache / f"{self._bucket}-{name}")

    @property
    def place(self) -> str:
        """The registry's URI."""
        return s3_uri(self._bucket, self._prefix)

    def where(self, version: ModelVersion) -> str:
        """The URI of a version."""
        return f"{self.place}{version.name}/{version.number}"

    def versions(self, name: str = "") -> list[ModelVersion]:
        """All complete versions, by name and number.

        Args:
            name: only of that model.

        Raises:
            ModelUnavailable: if S3 cannot be asked.
        """
        found = []
        below = f"{name}/" if name else ""
        try:
            for stored in self._s3.objects(self._bucket, self._prefix + below):
                parts = stored.key[len(self._prefix) :].split("/")
                version = version_of(*parts[:2]) if len(parts) == 3 else None
                if version is not None and parts[2] == _CARD:
                    found.append(version)
        except SourceError as error:
            raise ModelUnavailable(f"the model registry cannot be listed: {error}") from error
        return sorted(found, key=lambda version: (version.name, version.number))

    def holds(self, version: ModelVersion) -> bool:
        """True where the version is complete: its card is written last.

        Raises:
            ModelUnavailable: if S3 cannot be asked.
        """
        if super().holds(version):
            return True
        try:
            self._fetch(version, _CARD)
        except ItemError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return False
            raise self._unavailable(version, _CARD, error) from error
        return True

    def card(self, version: ModelVersion) -> Card:
        """Read a version's card.

        Raises:
            ModelUnavailable: if the card is missing or not as this release writes it, or S3
                cannot be asked for it.
        """
        with contextlib.suppress(OSError, ModelUnavailable):
            return read_card(self.path(version) / _CARD)
        self._fetched(version, _CARD)
        return super().card(version)

    def verified_file(self, version: ModelVersion, name: str) -> Path:
        """The path of one file of a version, its hash checked against the card.

        A file that is not kept here, or that was harmed here, is fetched.

        Raises:
            ModelUnavailable: if the file is missing or its hash is another in S3 too, or S3 cannot
                be asked for it.
        """
        path = self.path(version) / name
        said = self.card(version).files.get(name)
        if said is None:
            raise ModelUnavailable(f"model {version} has no {name} in {self.where(version)}")
        if path.is_file() and sha256(path) == said:
            return path
        self._fetched(version, name)
        found = sha256(path)
        if found != said:
            path.unlink(missing_ok=True)
            raise ModelUnavailable(
                f"{self.where(version)}/{name} has SHA-256 {found}, the card of {version} says "
                f"{said}: publish a new version, or remove {path.parent} if this one was replaced"
            )
        return path

    def publish(self, version: ModelVersion, built: Path) -> None:
        """Make a version part of the registry: its card is uploaded last.

        Who publishes the same version at the same time is waited for.

        Args:
            version: its name.
            built: a folder below the cache that holds its files and its card; it is gone
                afterwards.

        Raises:
            VersionTaken: if the registry has that version already, or was given it meanwhile.
            ModelUnavailable: if it cannot be written.
        """
        mark = f"{self.where(version)}/{_MARK}"
        try:
            self._take_turn(version, mark)
            try:
                for name in (*sorted(read_card(built / _CARD).files), _CARD):
                    with (built / name).open("rb") as file:
                        self._s3.send(file, f"{self.where(version)}/{name}")
            finally:
                with contextlib.suppress(ItemError):  # who finds it left waits, and then goes on
                    self._s3.remove(mark)
        except ItemError as error:
            raise ModelUnavailable(
                f"{self.where(version)} cannot be written: {error.message}"
            ) from error
        with contextlib.suppress(ModelUnavailable, VersionTaken):  # then it is fetched when used
            super().publish(version, built)

    def _take_turn(self, version: ModelVersion, mark: str) -> None:
        for turn in itertools.count(1):
            if self.holds(version):
                raise VersionTaken(f"{version} is in {self.place} already")
            if self._s3.create(mark):
                return
            if turn % int(MOST_PUBLISH_S / POLL_S) == 0:
                self._s3.remove(mark)  # of one that died; whoever marks first goes on
            self._sleep(POLL_S)

    def _fetched(self, version: ModelVersion, name: str) -> None:
        try:
            self._fetch(version, name)
        except ItemError as error:
            raise self._unavailable(version, name, error) from error

    def _fetch(self, version: ModelVersion, name: str) -> None:
        """Fetch a file under its name, whole, whoever else is at it."""
        path = self.path(version) / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(prefix=".fetching-", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    self._s3.fetch(f"{self.where(version)}/{name}", file)
                os.replace(partial, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial)
        except OSError as error:
            raise ModelAway(f"{path} cannot be kept: {error.strerror}") from error

    def _unavailable(self, version: ModelVersion, name: str, error: ItemError) -> ModelUnavailable:
        passes = isinstance(error, TransientItemError)
        kind = ModelAway if passes else ModelUnavailable
        return kind(f"model {version}: {self.where(version)}/{name}: {error.message}")
