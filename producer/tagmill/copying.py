"""Copying a version from one registry into a folder that becomes another."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tagmill.errors import ModelUnavailable
from tagmill.registry import ModelVersion, Registry


def export_version(registry: Registry, version: ModelVersion, folder: Path) -> Path:
    """Copy a version, each file verified, whole or not at all.

    Args:
        registry: that has it.
        version: which.
        folder: of the other registry; made where it is not there.

    Returns:
        The folder of the version in it.

    Raises:
        VersionTaken: if the other registry has that version.
        ModelUnavailable: if it cannot be read here, or not be written there.
    """
    target = Registry(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copying-", dir=folder) as scratch:
            copied = Path(scratch) / "version"
            copied.mkdir()
            for name in registry.card(version).files:
                shutil.copyfile(registry.verified_file(version, name), copied / name)
            shutil.copyfile(registry.path(version) / "card.json", copied / "card.json")
            target.publish(version, copied)
    except OSError as error:
        raise ModelUnavailable(f"{folder} cannot be written: {error.strerror or error}") from error
    return target.path(version)
