"""Keeps the slots of a machine running: starts them, restarts what dies, ends them together."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

from tagmill.embedded.process import die_with_parent
from tagmill.errors import MissingError, UsageError
from tagmill_worker.signals import killed_by
from tagmill_worker.slots import Slot

log = logging.getLogger(__name__)

SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""Before a slot that died is started again; it doubles from the shortest to the longest."""

SOUND_AFTER_S = 60.0
"""A slot that lived that long has no history when it dies."""

GRACE_S = 45.0
"""For all to end, above the 30 s that Celery's soft shutdown gives a chunk in hand."""

GIVEN_UP = 130
"""The exit code after a second Ctrl-C, as shells have it: 128 + SIGINT."""

KILLED = 3
"""The exit code where a slot had to be killed."""

_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_ASKS_AGAIN_S = 1.0


class Processes(Protocol):
    """The processes of this machine, as the supervisor needs them."""

    def start(self, slot: Slot) -> int:
        """Start a slot's process and return its id. May raise OSError."""

    def reap(self) -> list[tuple[int, int]]:
        """The processes that ended since, as (id, exit code), negative for a signal."""

    def send(self, pid: int, signum: int) -> None:
        """Send a signal to one process."""

    def kill(self, pid: int) -> None:
        """Kill a process and all that it started."""

    def wait(self, timeout_s: float) -> int | None:
        """Wait for a signal to us, and return it, or ``None`` after the time."""


@dataclass
class _Seat:
    """A slot with what became of it: ``pid`` where it runs, else ``due_at``."""

    slot: Slot
    pid: int | None = None
    started_at: float = 0.0
    due_at: float = 0.0
    deaths: int = 0


class Supervisor:
    """Runs slots until told to stop.

    Args:
        slots: each becomes a process.
        processes: of the machine.
        clock: seconds, monotonic.
        chance: in [0, 1), for pauses that differ.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        processes: Processes,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._seats = [_Seat(slot) for slot in slots]
        self._processes = processes
        self._clock = clock
        self._chance = chance
        self._stopping_at: float | None = None
        self._interrupts = 0
        self._had_to_kill = False

    def run(self) -> int:
        """Run until all have ended after a signal.

        SIGTERM, SIGINT and SIGQUIT are passed on; a second SIGINT kills everything at once.

        Returns:
            The exit code: 0 where all ended by themselves.
        """
        while True:
            for pid, code in self._processes.reap():
                self._note_end(pid, code)
            if self._stopping_at is None:
                self._start_due()
            elif not self._running():
                return self._exit_code()
            elif self._clock() - self._stopping_at > GRACE_S and not self._had_to_kill:
                log.error("%d slots did not end within %.0f s", len(self._running()), GRACE_S)
                self._kill()
            signum = self._processes.wait(self._pause_s())
            if signum in _STOPS:
                self._stop(signum)

    def _running(self) -> list[_Seat]:
        return [seat for seat in self._seats if seat.pid is not None]

    def _exit_code(self) -> int:
        if self._interrupts > 1:
            return GIVEN_UP
        return KILLED if self._had_to_kill else 0

    def _start_due(self) -> None:
        for seat in self._seats:
            if seat.pid is None and seat.due_at <= self._clock():
                seat.started_at = self._clock()
                try:
                    seat.pid = self._processes.start(seat.slot)
                except OSError as error:
                    log.error("slot %s cannot be started: %s", seat.slot.name, error)
                    self._postpone(seat)
                    continue
                log.info("slot started slot=%s pid=%d", seat.slot.name, seat.pid)

    def _note_end(self, pid: int, code: int) -> None:
        seat = next((seat for seat in self._seats if seat.pid == pid), None)
        if seat is None:
            return  # an orphan that came to us as process 1
        seat.pid = None
        if self._stopping_at is not None:
            log.info("slot ended slot=%s exit_code=%d", seat.slot.name, code)
            return
        for lane in seat.slot.lanes:
            lane.starting()
        self._postpone(seat)
        log.error(
            "slot %s died: %s; it is started again in %.1f s",
            seat.slot.name,
            _why(code),
            seat.due_at - self._clock(),
        )

    def _postpone(self, seat: _Seat) -> None:
        now = self._clock()
        seat.deaths = 1 if now - seat.started_at >= SOUND_AFTER_S else seat.deaths + 1
        longest = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2.0 ** min(seat.deaths - 1, 16))
        seat.due_at = now + longest * (0.5 + self._chance() / 2)

    def _pause_s(self) -> float:
        """For how long nothing is to be done unless a signal comes."""
        if self._stopping_at is not None:
            return _ASKS_AGAIN_S
        now = self._clock()
        due = [seat.due_at - now for seat in self._seats if seat.pid is None]
        return max(0.0, min([*due, LONGEST_PAUSE_S]))

    def _stop(self, signum: int) -> None:
        self._interrupts += signum == signal.SIGINT
        if self._stopping_at is None:
            self._stopping_at = self._clock()
            log.info("stopping %d slots", len(self._running()))
        if self._interrupts > 1:
            self._kill()
            return
        for seat in self._running():
            if seat.pid is not None:
                self._processes.send(seat.pid, signum)

    def _kill(self) -> None:
        self._had_to_kill = True
        for seat in self._running():
            if seat.pid is not None:
                self._processes.kill(seat.pid)


def _why(code: int) -> str:
    if code < 0:
        return killed_by(-code)
    if code in (UsageError.exit_code, MissingError.exit_code):
        return f"exit code {code}, its last line says why"
    return f"exit code {code}"


class SystemProcesses:
    """Real processes, and the signals that come to this one.

    Args:
        command: of a slot.
        environment: of a slot.
    """

    def __init__(
        self,
        command: Callable[[Slot], list[str]],
        environment: Callable[[Slot], dict[str, str]],
    ) -> None:
        self._command = command
        self._environment = environment
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        self._signals: SimpleQueue[int] = SimpleQueue()

    def listen(self) -> None:
        """Take the signals that would end this process."""
        for signum in (*_STOPS, signal.SIGCHLD):
            signal.signal(signum, self._note)

    def _note(self, signum: int, _: FrameType | None) -> None:
        self._signals.put(signum)

    def start(self, slot: Slot) -> int:
        """Start a slot's process in a group of its own, which Ctrl-C does not reach."""
        process = subprocess.Popen(
            self._command(slot),
            stdin=subprocess.DEVNULL,
            env=self._environment(slot),
            process_group=0,
            pass_fds=[lane.descriptor for lane in slot.lanes if lane.descriptor is not None],
            preexec_fn=die_with_parent,
        )
        self._started[process.pid] = process
        return process.pid

    def reap(self) -> list[tuple[int, int]]:
        """Every child that ended, those included that came to us as process 1."""
        ended = []
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                code = os.waitstatus_to_exitcode(status)
                process = self._started.pop(pid, None)
                if process is not None:
                    process.returncode = code  # so that it does not wait itself
                ended.append((pid, code))
        return ended

    def send(self, pid: int, signum: int) -> None:
        """Send a signal to one process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)

    def kill(self, pid: int) -> None:
        """Kill a process and its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """The next signal that came."""
        with contextlib.suppress(Empty):
            return self._signals.get(timeout=timeout_s)
        return None
