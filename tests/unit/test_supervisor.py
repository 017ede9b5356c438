from __future__ import annotations

import itertools
import signal

import pytest

from tagmill_worker import supervisor
from tagmill_worker.lane_files import LaneFile
from tagmill_worker.slots import Slot
from tagmill_worker.supervisor import GRACE_S, Supervisor

SLOTS = [Slot(queue="label", lanes=(LaneFile(name),)) for name in ("gpu0", "gpu1")]


class FakeMachine:
    """Processes and time as a test tells them; a wait passes the time."""

    def __init__(self, *events: tuple[float, object]) -> None:
        self.now = 0.0
        self.events = sorted(events, key=lambda event: event[0])
        self.started: list[tuple[float, str, int]] = []
        self.sent: list[tuple[int, int]] = []
        self.killed: list[int] = []
        self.ended: list[tuple[int, int]] = []
        self.fails_to_start = 0

    def clock(self) -> float:
        return self.now

    def start(self, slot: Slot) -> int:
        if self.fails_to_start:
            self.fails_to_start -= 1
            raise OSError("no more processes")
        pid = 100 + len(self.started)
        self.started.append((self.now, slot.lanes[0].name, pid))
        return pid

    def reap(self) -> list[tuple[int, int]]:
        ended, self.ended = self.ended, []
        return ended

    def send(self, pid: int, signum: int) -> None:
        self.sent.append((pid, signum))

    def kill(self, pid: int) -> None:
        self.killed.append(pid)
        self.ended.append((pid, -signal.SIGKILL))

    def wait(self, timeout_s: float) -> int | None:
        assert timeout_s >= 0
        if self.ended:
            return int(signal.SIGCHLD)
        if not self.events or self.events[0][0] > self.now + timeout_s:
            self.now += timeout_s
            assert self.now < 10_000, "the supervisor waits for what does not come"
            return None
        at, event = self.events.pop(0)
        self.now = max(self.now, at)
        if isinstance(event, int):
            return event
        self.ended.append(event)  # type: ignore[arg-type]
        return int(signal.SIGCHLD)

    def supervise(self, slots: list[Slot] = SLOTS) -> int:
        return Supervisor(slots, self, clock=self.clock, chance=lambda: 1.0).run()


def test_signal_is_passed_on_and_all_are_waited_for() -> None:
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        machine = FakeMachine((5.0, int(signum)), (6.0, (100, 0)), (9.0, (101, 0)))
        assert machine.supervise() == 0
        assert machine.sent == [(100, signum), (101, signum)]
        assert machine.killed == []
        assert machine.now == pytest.approx(9.0)


def test_what_dies_is_started_again_after_pauses_that_double() -> None:
    class Mortal(FakeMachine):
        def start(self, slot: Slot) -> int:
            pid = super().start(slot)
            if len(self.started) < 10:
                self.ended.append((pid, 3))
            return pid

        def reap(self) -> list[tuple[int, int]]:
            if len(self.started) == 10 and not self.events:
                self.events = [(self.now + 1, int(signal.SIGTERM)), (self.now + 2, (109, 0))]
            return super().reap()

    machine = Mortal()
    assert machine.supervise(SLOTS[:1]) == 0
    times = [at for at, _, _ in machine.started]
    pauses = [later - at for at, later in itertools.pairwise(times)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_death_after_a_sound_life_has_no_history() -> None:
    machine = FakeMachine(
        (1.0, (100, -9)), (100.0, (101, -9)), (200.0, int(signal.SIGTERM)), (201.0, (102, 0))
    )
    assert machine.supervise(SLOTS[:1]) == 0
    assert [at for at, _, _ in machine.started] == [0.0, 2.0, 101.0]


def test_death_of_one_leaves_the_others_alone() -> None:
    machine = FakeMachine(
        (1.0, (101, 2)), (50.0, int(signal.SIGTERM)), (51.0, (100, 0)), (51.0, (102, 0))
    )
    assert machine.supervise() == 0
    assert [name for _, name, _ in machine.started] == ["gpu0", "gpu1", "gpu1"]
    assert [pid for pid, _ in machine.sent] == [100, 102]


def test_slot_that_cannot_be_started_is_tried_again() -> None:
    machine = FakeMachine((50.0, int(signal.SIGTERM)), (51.0, (100, 0)))
    machine.fails_to_start = 2
    assert machine.supervise(SLOTS[:1]) == 0
    assert [at for at, _, _ in machine.started] == [3.0]


def test_what_does_not_end_within_the_grace_is_killed() -> None:
    machine = FakeMachine((5.0, int(signal.SIGTERM)), (6.0, (100, 0)))
    assert machine.supervise() == supervisor.KILLED
    assert machine.killed == [101]
    assert machine.now == pytest.approx(5.0 + GRACE_S, abs=2.0)


def test_second_interrupt_gives_up_at_once() -> None:
    machine = FakeMachine((5.0, int(signal.SIGINT)), (6.0, int(signal.SIGINT)))
    assert machine.supervise() == supervisor.GIVEN_UP
    assert machine.killed == [100, 101]
    assert machine.now == pytest.approx(6.0, abs=1.0)


def test_nothing_is_started_again_while_stopping() -> None:
    machine = FakeMachine((1.0, (100, 1)), (1.5, int(signal.SIGTERM)), (30.0, (101, 0)))
    assert machine.supervise() == 0
    assert len(machine.started) == 2


def test_orphan_of_a_slot_is_reaped_and_forgotten() -> None:
    machine = FakeMachine(
        (1.0, (999, 0)), (2.0, int(signal.SIGTERM)), (3.0, (100, 0)), (3.0, (101, 0))
    )
    assert machine.supervise() == 0
    assert len(machine.started) == 2
