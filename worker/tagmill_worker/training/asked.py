"""What a training is asked for, what it comes to, and where it works."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tagmill.errors import JobCancelled
from tagmill.registry import Registry
from tagmill.settings import Settings


class Request(Protocol):
    """What is to be trained."""

    @property
    def name(self) -> str:
        """Of the model that a version is made of."""

    @property
    def dataset(self) -> str:
        """As `list_dataset` takes it."""

    @property
    def fine_tune_blocks(self) -> int:
        """How many of the base's top blocks are trained too."""

    @property
    def min_gain(self) -> float:
        """Accuracy that the new version must have more than the champion."""

    @property
    def strict(self) -> bool:
        """Any finding in the dataset stops the training."""

    @property
    def seed(self) -> int:
        """Of all that is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a training came to.

    Attributes:
        said: one sentence for a person.
        fingerprint: of the dataset, in hex.
        version: the number of the version that was made; ``None`` where the dataset is unchanged.
        compared_with: the champion's number that it was measured against, if there was one.
        is_better: so much that it is to be promoted, and passed its probe.
        about: metrics, findings and the report's place, as JSON has it.
    """

    said: str
    fingerprint: str
    version: int | None = None
    compared_with: int | None = None
    is_better: bool = False
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a training works.

    Attributes:
        settings: limits, roots, and the state folder that keeps bases, vectors and checkpoints.
        registry: where versions are.
        progress: told the stage, and how much of it is done of how much.
        is_cancelled: asked at every step.
        checkpoint_s: seconds of fitting, at the most, that are done again after a kill.
    """

    settings: Settings
    registry: Registry
    progress: Callable[[str, int, int], None]
    is_cancelled: Callable[[], bool]
    checkpoint_s: float

    @property
    def folder(self) -> Path:
        """What trainings keep from one to the next."""
        return self.settings.state_dir / "training"

    def work(self, key: str) -> Path:
        """The folder of what was done of one training so far.

        Args:
            key: of all that it depends on.
        """
        return self.folder / "work" / hashlib.sha256(key.encode()).hexdigest()[:24]

    def check(self) -> None:
        """End where somebody wants that.

        Raises:
            JobCancelled: then.
        """
        if self.is_cancelled():
            raise JobCancelled("the training was cancelled; the champion is as it was")

    def moved(self, stage: str, done: int, total: int) -> None:
        """Tell how a stage gets on, and end where somebody wants that."""
        self.progress(stage, done, total)
        self.check()
