"""The watchdog: ends a lane that an image makes hang or eat memory, before the machine suffers.

It runs in the parent of the lanes, since a lane in such trouble cannot be trusted to end itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from tagmill_worker.hands import Hand

log = logging.getLogger(__name__)

LOOK_S = 0.25
"""Between two looks: memory is taken at some GB/s."""

_LONGEST_LOOK_S = 4 * LOOK_S  # what counts of a gap: this process may have been stopped meanwhile

Key = tuple[int, int, float]


class Watchdog:
    """Looks at the lanes of a worker.

    Args:
        hands: of the lanes.
        item_timeout_s: that one image may take.
        lane_bytes: memory that a lane may take, ``None`` for any.
        resident_bytes: of a process.
        is_alive: whether a process is; one that died may not be buried yet.
        kill: a process.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        hands: Sequence[Hand],
        *,
        item_timeout_s: float,
        lane_bytes: int | None,
        resident_bytes: Callable[[int], int] | None = None,
        is_alive: Callable[[int], bool] | None = None,
        kill: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hands = hands
        self._item_timeout_s = item_timeout_s
        self._lane_bytes = lane_bytes
        self._resident_bytes = resident_bytes or _resident_bytes
        self._is_alive = is_alive or _is_alive
        self._kill = kill or _kill
        self._clock = clock
        self._looked_at = clock()
        self._seen_s: dict[Key, float] = {}
        self._killed: dict[int, str] = {}

    def start(self) -> None:
        """Look now and then, in a thread, for as long as the process lives."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def why(self, pid: int) -> str | None:
        """Why a lane was ended, where it was."""
        return self._killed.pop(pid, None)

    def look(self) -> None:
        """Look once at each lane. Whatever fails at one is logged, and the others are looked at."""
        now = self._clock()
        passed_s = min(now - self._looked_at, _LONGEST_LOOK_S)
        self._looked_at = now
        before_s, self._seen_s = self._seen_s, {}
        for hand in self._hands:
            try:
                self._look_at(hand, before_s, passed_s)
            except Exception:  # the thread's boundary: nobody else watches the others
                log.exception("lane pid=%d cannot be watched", hand.pid)
        pids = {hand.pid for hand in self._hands}
        for pid in list(self._killed):  # a copy: `why` takes from it in another thread
            if pid not in pids:
                self._killed.pop(pid, None)

    def _look_at(self, hand: Hand, before_s: Mapping[Key, float], passed_s: float) -> None:
        pid = hand.pid
        if not pid or pid in self._killed:
            return
        for item in hand.held():
            key = (pid, item.slot, item.since)
            # Counted in our own looks: no other clock tells for how long the lane could run.
            self._seen_s[key] = before_s.get(key, -passed_s) + passed_s
            if self._seen_s[key] > self._item_timeout_s:
                self._end(pid, f"it took longer than {self._item_timeout_s:g} s", "ITEM_TIMEOUT_S")
                return
        self._check_memory(pid)

    def _check_memory(self, pid: int) -> None:
        if self._lane_bytes is None:
            return
        taken = self._resident_bytes(pid)
        if taken > self._lane_bytes:
            why = f"{taken:,} bytes of memory were taken, the limit is {self._lane_bytes:,}"
            self._end(pid, why, "LANE_BYTES")

    def _end(self, pid: int, why: str, setting: str) -> None:
        if not self._is_alive(pid):
            return  # it died of something else
        log.error("lane ended pid=%d: %s (TAGMILL_%s)", pid, why, setting)
        self._killed[pid] = f"{why} (TAGMILL_{setting})"
        self._kill(pid)

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self.look()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0  # it is gone, or this system does not tell


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except ProcessLookupError:  # gone since the file was opened
        return False
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")  # or this system does not tell
