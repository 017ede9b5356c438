"""Files by which the lanes of one machine share its cores, and by which their health is asked for.

A lane holds the lock on ``cpu3.lane`` or ``gpu0.lane`` while it runs; the file says how far it is,
and the time of its last change says when the lane last got on. A lock ends with the last process
that holds its descriptor, however that ends, so nothing is ever left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tagmill.errors import MissingError

STALE_S = 120.0
"""A lane whose heart has not beaten for that long hangs, or has got on with nothing for long."""


class LaneFile:
    """What one lane says of itself to whoever asks on this machine.

    Args:
        name: ``cpu3``, ``gpu0``, ``gpu0.1`` for its second lane, ``train-gpu0``.
        descriptor: of the locked file. Without one nothing is written.
    """

    def __init__(self, name: str, descriptor: int | None = None) -> None:
        self.name = name
        self.descriptor = descriptor

    def starting(self) -> None:
        """Say that the lane takes no work yet."""
        self._write("starting")

    def ready(self) -> None:
        """Say that the lane has warmed up."""
        self._write("ready")

    def beat(self) -> None:
        """Say that the lane got on, or has nothing to do. May be called from any thread."""
        if self.descriptor is not None:
            os.utime(self.descriptor)

    def close(self) -> None:
        """Give the lock up, unless another process holds the descriptor too."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _write(self, state: str) -> None:
        if self.descriptor is not None:
            # In this order a reader finds a whole first line at any time.
            line = f"{os.getpid()} {state}\n".encode()
            os.pwrite(self.descriptor, line, 0)
            os.ftruncate(self.descriptor, len(line))


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneHealth:
    """What the file of a lane at work says.

    Attributes:
        changed_at: when the lane last got on, in seconds since the epoch.
    """

    name: str
    is_ready: bool
    changed_at: float


class LaneFolder:
    """The lane files of this machine and user.

    Args:
        path: made when a lane is taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def take_first(self, names: Iterable[str]) -> LaneFile:
        """Take the first of the lanes that nobody has.

        Args:
            names: in order; endless, or at least one of them free.

        Returns:
            Its file, locked by a descriptor that child processes inherit.

        Raises:
            MissingError: if the folder cannot be made, or belongs to somebody else.
        """
        with self._alone():
            for name in names:
                descriptor = os.open(self._file(name), os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    continue
                os.set_inheritable(descriptor, True)
                taken = LaneFile(name, descriptor)
                taken.starting()
                return taken
        raise MissingError(f"no lane is free in {self.path}")

    def at_work(self) -> list[LaneHealth]:
        """The lanes that somebody has, by name."""
        if not self.path.is_dir():
            return []
        found = []
        with self._alone():
            for path in self.path.glob("*.lane"):
                with path.open("rb") as file:
                    if _is_held(file.fileno()):
                        words = file.readline().split()
                        changed_at = os.fstat(file.fileno()).st_mtime
                        is_ready = words[1:2] == [b"ready"]
                        found.append(
                            LaneHealth(name=path.stem, is_ready=is_ready, changed_at=changed_at)
                        )
        return sorted(found, key=lambda lane: lane.name)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.lane"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Whoever looks takes locks for a moment: nobody may take a lane meanwhile."""
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            found = os.lstat(self.path)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                raise MissingError(f"{self.path} is not ours: remove it, or set TMPDIR")
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise MissingError(f"{self.path} is open to others: remove it, or set TMPDIR")
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MissingError(f"lane files in {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise MissingError(f"lane files in {self.path}: {error.strerror}") from error
        finally:
            os.close(lock)


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def lane_folder() -> LaneFolder:
    """The folder of this user's lanes on this machine."""
    return LaneFolder(Path(tempfile.gettempdir()) / f"tagmill-{os.getuid()}-lanes")


def readiness(lanes: list[LaneHealth]) -> tuple[bool, str]:
    """Whether every lane has warmed up and there is one, and a line that says so."""
    waited_for = [lane.name for lane in lanes if not lane.is_ready]
    if not lanes:
        return False, "not ready: no lane is at work"
    if waited_for:
        return False, f"not ready: {', '.join(waited_for)} of {len(lanes)} lanes still start"
    return True, f"ready: {', '.join(lane.name for lane in lanes)}"


def liveness(lanes: list[LaneHealth], now: float) -> tuple[bool, str]:
    """Whether no lane hangs, and a line that says so.

    Args:
        lanes: at work.
        now: seconds since the epoch.
    """
    hanging = [
        f"{lane.name} for {now - lane.changed_at:.0f} s"
        for lane in lanes
        if now - lane.changed_at > STALE_S
    ]
    if hanging:
        return False, f"not alive: no progress of {', '.join(hanging)}"
    return True, f"alive: {', '.join(lane.name for lane in lanes) or 'no lane is at work'}"
