"""What all clusters of the cases have in common: photographs, their labels, an environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.faults.counting import Labels
from tagmill.settings import Settings

FEW = 10
"""Photographs of the next job."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """What all clusters of the cases have in common.

    Attributes:
        work: a folder to work in.
        models: a registry with the built-in model.
        photos: real photographs, 200 of them.
        labels: what an undisturbed run says of each, by file name.
        copies: how often a job has each photograph.
        tick_s: between two ticks of the schedulers.
        lease_s: of claims; the product's own where unset.
    """

    work: Path
    models: Path
    photos: Sequence[Path]
    labels: Labels
    copies: int = 3
    tick_s: float = 10.0
    lease_s: float | None = None

    @property
    def items(self) -> int:
        """How many images a job has where nothing else is said."""
        return self.copies * len(self.photos)

    @cached_property
    def few(self) -> Path:
        """A handful of photographs, for the next job."""
        return self._links("few", self.photos[:FEW], 1)

    def folder(self, copies: int = 0) -> Path:
        """A folder of the photographs, each that many times; as often as `copies` says, else."""
        return self._links(f"{copies or self.copies}-times", self.photos, copies or self.copies)

    def _links(self, name: str, photos: Sequence[Path], copies: int) -> Path:
        made = self.work / name
        if not made.exists():
            for copy in range(copies):
                (made / str(copy)).mkdir(parents=True)
                for photo in photos:
                    (made / str(copy) / photo.name).symlink_to(photo)
        return made


def clean_environment(home: Path, models: Path) -> dict[str, str]:
    """The environment of a command with a state folder and lane files of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TAGMILL_", "AWS_"))}
    scratch = home / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    return {
        **clean,
        "TAGMILL_MODELS": str(models),
        "TAGMILL_STATE_DIR": str(home / "state"),
        "TMPDIR": str(scratch),
    }


def leased(lease_s: float) -> dict[str, str]:
    """The environment of lanes with such leases, and with a limit of an image in proportion."""
    usual = Settings.model_fields
    share = usual["item_timeout_s"].default / usual["lease_s"].default
    return {"TAGMILL_LEASE_S": str(lease_s), "TAGMILL_ITEM_TIMEOUT_S": str(lease_s * share)}
