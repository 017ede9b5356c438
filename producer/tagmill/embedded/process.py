"""Starting and ending the processes of a run, so that none outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tagmill.errors import WorkerStopped

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # prctl(2)


def start(
    command: list[str],
    output: int,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that Ctrl-C does not reach, and that does not outlive us on Linux."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
            preexec_fn=die_with_parent if _LIBC is not None else None,
        )
    except OSError as error:
        raise WorkerStopped(f"{command[0]} cannot be started: {error}") from error


def die_with_parent() -> None:
    """Have the system end this process with its parent: for ``preexec_fn``, on Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process: subprocess.Popen[bytes], *, grace_s: float) -> None:
    """Ask a process to end, and after the grace make it and whatever it started."""
    try:
        if grace_s:
            process.terminate()
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
        process.wait()
    except BaseException:  # a second Ctrl-C: no more patience
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
