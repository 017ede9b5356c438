"""The command `tagmill` as a user runs it: a process with an environment and a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil


class Tagmill:
    """Runs the command in a folder of its own.

    Args:
        home: the working directory; its state folder is `state`.
        models: the registry.
    """

    def __init__(self, home: Path, *, models: Path) -> None:
        self.home = home
        self.state = home / "state"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TAGMILL_")},
            "TAGMILL_MODELS": str(models),
            "TAGMILL_STATE_DIR": str(self.state),
        }

    def __call__(
        self, *arguments: object, code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end and check the exit code."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Start it and go on."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.home,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "tagmill", *map(str, arguments)]

    def rows(self, path: str | Path) -> list[dict[str, Any]]:
        """The rows of a JSONL file below the home folder."""
        return [json.loads(line) for line in (self.home / path).read_text().splitlines()]

    def left_running(self) -> list[str]:
        """Processes of this state folder that are there."""
        mark = str(self.state)
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            command = " ".join(process.info["cmdline"] or [])
            state = (process.info["environ"] or {}).get("TAGMILL_STATE_DIR", "")
            if process.pid != os.getpid() and (mark in command or state == mark) and command:
                found.append(command)
        return found

    def lanes(self) -> list[psutil.Process]:
        """The lanes at work: the processes that the worker forked."""
        workers = [
            process
            for process in psutil.process_iter(["cmdline", "environ"])
            if "tagmill_worker" in " ".join(process.info["cmdline"] or [])
            and (process.info["environ"] or {}).get("TAGMILL_STATE_DIR") == str(self.state)
        ]
        pids = {process.pid for process in workers}
        return [process for process in workers if process.ppid() in pids]
