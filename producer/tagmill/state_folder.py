"""The state folder: everything that the embedded default keeps, used by one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagmill.errors import StateFolderError, StoreFull

FORMAT = 1
"""Of the folder's layout; the store's schema has a version of its own."""

LEAST_FREE_BYTES = 16 << 20
"""Under that much free room a run stops while it still can in good order."""

_LOCK, _PARTIAL = "lock", "format.new"


class StateFolder:
    """A state folder by its path; it need not exist.

    Args:
        path: made absolute here.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self.broker = self.path / "broker"
        self.logs = self.path / "logs"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one run.

        Raises:
            StateFolderError: if another run holds it, it is of another format, or cannot be
                written.
            StoreFull: if there is no room left.
        """
        try:
            for folder in (self.path, self.broker, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateFolderError(f"state folder {self.path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
                raise StateFolderError(
                    f"another run (process {holder}) is using the state folder {self.path}: "
                    "wait for it, or take another with --state-dir"
                ) from error
            self.check_room()
            if not self.check_format():
                self._write_format()
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(lock)
            raise StateFolderError(f"state folder {self.path}: {error.strerror}") from error
        except BaseException:
            os.close(lock)
            raise
        try:
            yield
        finally:
            os.close(lock)  # and with it the lock

    def is_held(self) -> bool:
        """True while a run is at work in the folder."""
        try:
            lock = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def check_room(self) -> None:
        """Look whether there is room to go on.

        Raises:
            StoreFull: if there is not.
        """
        try:
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise StateFolderError(f"state folder {self.path}: {error.strerror}") from error
        if free < LEAST_FREE_BYTES:
            raise StoreFull(
                f"no room left: {free:,} bytes are free under {self.path}, "
                f"the least is {LEAST_FREE_BYTES:,}"
            )

    def check_format(self) -> bool:
        """Look whether the folder is one that this release works with.

        Returns:
            False where it is none yet.

        Raises:
            StateFolderError: if it is no folder, cannot be read, or is of another format.
        """
        path = self.path / "format.json"
        if self.path.exists() and not self.path.is_dir():
            raise StateFolderError(f"state folder {self.path}: it is a file")
        try:
            found = json.loads(path.read_bytes())["format"]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateFolderError(f"{path} is not a state folder's: {error!r}") from error
        if found != FORMAT:
            raise StateFolderError(
                f"the state folder {self.path} has format {found!r}, this release works with "
                f"{FORMAT}: use the tagmill that wrote it, or another folder with --state-dir"
            )
        return True

    def has_others(self) -> bool:
        """True where a folder of no format yet has more than what `locked` begins with."""
        own = {self.broker.name, self.logs.name, _LOCK, _PARTIAL}
        return self.path.exists() and any(entry.name not in own for entry in self.path.iterdir())

    def _write_format(self) -> None:
        path = self.path / "format.json"
        partial = self.path / _PARTIAL
        partial.write_text(json.dumps({"format": FORMAT}) + "\n")
        partial.replace(path)


def last_words(log: Path) -> str | None:
    """The sentence with which a logged process said why it ended, if it did."""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()
        for line in reversed(lines[-400:]):
            for mark in ("tagmill: ", "the worker stops: "):
                if mark in line:
                    return line.partition(mark)[2]
    return None
