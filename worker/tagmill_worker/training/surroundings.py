"""Where a training works, whom it tells, and who may end it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tagmill.errors import JobCancelled
from tagmill.registry import Registry
from tagmill.settings import Settings

KEPT_S = 7 * 86_400.0
"""For how long the checkpoints of a training that was stopped are kept."""


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

    def tidy(self) -> None:
        """Take away what trainings left that nobody went on with."""
        oldest = time.time() - KEPT_S
        for folder in self.folder.glob("work/*"):
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)

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
