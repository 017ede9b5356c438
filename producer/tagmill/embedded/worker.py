"""The worker of a run: the processes of the heavy side, handed their settings by environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tagmill.contract import TRAIN_QUEUE
from tagmill.embedded.process import end, start
from tagmill.errors import ModelUnavailable, UsageError, WorkerStopped
from tagmill.registry import ModelVersion
from tagmill.settings import Settings
from tagmill.state_folder import StateFolder, last_words

_VERSION = re.compile(r"^[a-z0-9][a-z0-9_.-]*@\d+$", re.MULTILINE)


class EmbeddedWorker:
    """A worker process with its lanes.

    Args:
        settings: passed on by environment, with the broker's address and the roots.
        folder: for its log.
        words: that say what it runs: `label_words` or `train_words`.
    """

    def __init__(self, settings: Settings, folder: StateFolder, *, words: Sequence[str]) -> None:
        self._settings = settings
        self._log = folder.logs / "worker.log"
        self._scratch = folder.path / "scratch"
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the worker; its lanes take up work when they are ready."""
        # The pool makes a temporary folder, and leaves it when it is killed.
        self._scratch.mkdir(exist_ok=True)
        with self._log.open("wb") as output:
            self._process = start(
                [sys.executable, "-m", "tagmill_worker", *self._words],
                output.fileno(),
                environment={
                    **worker_environment(self._settings),
                    "TMPDIR": str(self._scratch),
                    # Else Celery may wait for ever for messages that were in hand already.
                    "REMAP_SIGTERM": "SIGQUIT",
                },
            )

    def check(self) -> None:
        """Look whether the worker is running.

        Raises:
            WorkerStopped: if it ended by itself.
        """
        if self._process is not None and self._process.poll() is not None:
            why = last_words(self._log) or f"exit code {self._process.returncode}"
            raise WorkerStopped(f"the lanes stopped: {why} (log: {self._log})")

    def stop(self, *, grace_s: float) -> None:
        """Let the lanes finish the chunks in hand, then end them.

        Args:
            grace_s: seconds that they have for that.
        """
        if self._process is not None:
            end(self._process, grace_s=grace_s)
            self._process = None
        shutil.rmtree(self._scratch, ignore_errors=True)


def label_words(lanes: int, model: ModelVersion) -> list[str]:
    """The words that make a worker label.

    Args:
        lanes: how many.
        model: what they load before they take work.
    """
    return ["lanes", "--count", str(lanes), "--warm-up", str(model)]


def train_words() -> list[str]:
    """The words that make a worker train, on the first GPU if there is one."""
    return ["worker", "--queues", TRAIN_QUEUE, "--gpus", "auto", "--lanes-per-gpu", "1"]


def build_model(settings: Settings, folder: StateFolder, version: ModelVersion) -> None:
    """Build the built-in model in a process of its own, which may load TensorFlow.

    Raises:
        ModelUnavailable: saying why, and the ways out.
    """
    code, _, why = _heavy(settings, folder, ["build"])
    if code != 0:
        raise ModelUnavailable(f"{version}: {why}")


def import_model(settings: Settings, folder: StateFolder, words: Sequence[str]) -> str:
    """Import somebody else's classifier, in a process as that of `build_model`.

    Args:
        settings: with the registry.
        folder: for the log.
        words: as ``python -m tagmill_worker import`` takes them.

    Returns:
        The version that it became, as ``name@number``.

    Raises:
        UsageError: if something must be said that the network does not tell.
        ModelUnavailable: if it cannot be run, saying why.
    """
    code, said, why = _heavy(settings, folder, ["import", *words])
    if code == 0:
        return str(_VERSION.findall(said)[-1])
    raise (UsageError if code == UsageError.exit_code else ModelUnavailable)(why)


def _heavy(settings: Settings, folder: StateFolder, words: Sequence[str]) -> tuple[int, str, str]:
    """Run a command of the heavy side to its end: its exit code, what it said, and why it failed.

    Others may do the same, so that each has a log of its own, kept where nothing says why.
    """
    log = folder.logs / f"{words[0]}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = start(
            [sys.executable, "-m", "tagmill_worker", *words],
            output.fileno(),
            environment=worker_environment(settings),
        )
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C, say: it must not go on alone
            end(process, grace_s=2.0)
            log.unlink(missing_ok=True)
            raise
    said, why = log.read_text(errors="replace"), last_words(log)
    if code == 0 or why:
        log.unlink(missing_ok=True)
    return code, said, why or f"the {words[0]} ended with exit code {code}; its log is {log}"


def worker_environment(settings: Settings) -> Mapping[str, str]:
    """The environment that hands settings to a worker's process."""
    environment = {
        **os.environ,
        "TAGMILL_STATE_DIR": str(settings.state_dir),
        "TAGMILL_STORE_URL": settings.store_address,
        "TAGMILL_MODELS": settings.models_place,
        "TAGMILL_NAMESPACE": settings.namespace,
        "TAGMILL_ROOTS": json.dumps([str(root) for root in settings.roots]),
        # One lane is one core: libraries that would start a thread per core only get in the way.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if settings.broker_url is not None:
        environment["TAGMILL_BROKER_URL"] = settings.broker_url.get_secret_value()
    return environment
