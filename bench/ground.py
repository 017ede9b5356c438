"""What the benchmarks stand on: photographs, a built model, and runs of the command."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tagmill.registry import BUILT_IN, ModelVersion, Registry

VERSION = ModelVersion(name=BUILT_IN, number=1)
COPIES = 5


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A folder to work in, and what lies there.

    Attributes:
        photos: JPEGs; ``photos.csv`` beside the folder names the true class of each.
        work: an empty folder that goes afterwards.
        lanes: as many as there are cores.
        only: of `chaos`, the rows that have these words in them.
    """

    photos: Path
    work: Path
    lanes: int
    only: str = ""

    @cached_property
    def registry(self) -> Registry:
        """A registry with the built-in model."""
        folder = self.work / "models"
        subprocess.run(
            [sys.executable, "-m", "tagmill", "models", "pull"],
            env=self.environment("pull", models=folder),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return Registry(folder)

    @cached_property
    def thousand(self) -> Path:
        """1,000 photographs where there are 200: five times over, under other names."""
        folder = self.work / "thousand"
        folder.mkdir()
        for copy in range(COPIES):
            for photo in sorted(self.photos.glob("*.jpg")):
                shutil.copyfile(photo, folder / f"{copy}-{photo.name}")
        return folder

    def environment(self, state: str, *, models: Path | None = None) -> dict[str, str]:
        """The environment of a command with a state folder of that name."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TAGMILL_") or name == "TAGMILL_WEIGHTS"
        }
        return {
            **clean,
            "TAGMILL_STATE_DIR": str(self.work / state),
            "TAGMILL_MODELS": str(models or self.registry.folder),
        }

    @contextmanager
    def started(
        self, state: str, *, source: str | None = None, lanes: int | None = None, **more: str
    ) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
        """`tagmill run` as a process, and the time at which it was started.

        Args:
            state: name of its state folder.
            source: what to label; the thousand where none is named.
            lanes: how many; one per core where unset.
            more: of its environment.
        """
        command = [
            *(sys.executable, "-m", "tagmill", "run", source or str(self.thousand)),
            *("--lanes", str(lanes or self.lanes), "--out", str(self.work / f"{state}.jsonl")),
            *("--report", str(self.work / f"{state}.html")),
        ]
        environment = {**self.environment(state), **more}
        at = time.time()
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            yield process, at
        if process.returncode != 0:
            raise RuntimeError(f"{command} ended with {process.returncode}")

    def run(
        self, state: str, *, source: str | None = None, lanes: int | None = None, **more: str
    ) -> float:
        """Run the command as `started` says; the seconds from its start to its exit."""
        began = time.perf_counter()
        with self.started(state, source=source, lanes=lanes, **more):
            pass
        return time.perf_counter() - began

    def ledger(self, state: str, query: str) -> list[tuple[object, ...]]:
        """Ask a state folder's store."""
        with sqlite3.connect(self.work / state / "tagmill.db") as connection:
            return connection.execute(query).fetchall()
