"""Programs of a cluster as processes, and waiting for what they do."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import psutil

from tagmill.errors import StoreError

T = TypeVar("T")

END_S = 60.0

_READY = re.compile(r"lane ready lane=(\S+) pid=(\d+)")


def until(look: Callable[[], T], *, within_s: float, what: str) -> T:
    """The first true thing that ``look`` returns; a store that is away is looked at again.

    Raises:
        TimeoutError: if there is none in that time.
    """
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(StoreError):
            found = look()
            if found:
                return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.02)


class Program:
    """A command of tagmill's that runs; what it says goes to a file.

    Args:
        words: of the command.
        environment: its own.
        log: the file.
    """

    def __init__(self, words: list[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tagmill", *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def said(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def send(self, signum: int) -> None:
        """Send it a signal."""
        self._process.send_signal(signum)

    def wait(self, within_s: float = END_S) -> int:
        """Wait for its end; the exit code."""
        return self._process.wait(within_s)

    def kill(self) -> None:
        """Kill it and all that it started, at one moment as far as can be."""
        family = [psutil.Process(self.pid)] if self.is_running else []
        for process in family:
            family += process.children(recursive=True)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()  # so that none starts another, and none ends its chunk
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(family, END_S)

    def stop(self) -> None:
        """Ask it to end.

        Raises:
            RuntimeError: if it does not, and had to be killed.
        """
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired as error:
                self.kill()
                raise RuntimeError(f"it did not end on SIGTERM: {self.said()[-2000:]}") from error
        self.kill()


class Worker(Program):
    """`tagmill worker` as a program."""

    def ready(self) -> Counter[str]:
        """How often each lane has said that it is ready, by name."""
        return Counter(name for name, _ in _READY.findall(self.said()))

    def lanes(self) -> dict[str, psutil.Process]:
        """The lanes that are ready and alive, by name."""
        alive = {}
        for name, pid in _READY.findall(self.said()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                if process.status() != psutil.STATUS_ZOMBIE:
                    alive[name] = process
        return alive
