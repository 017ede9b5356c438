"""Hands and the watchdog: who has what in hand, and for how long."""

from __future__ import annotations

import os
import threading

import pytest

from tagmill_worker.hands import SLOTS, Hand, hands
from tagmill_worker.watchdog import LOOK_S, Watchdog, _is_alive


@pytest.fixture
def hand() -> Hand:
    _, second = hands(2)
    second.open(41)
    second.claimed(41, 7)
    return second


class Machine:
    """A clock and processes that are killed in memory."""

    def __init__(self) -> None:
        self.now = 0.0
        self.taken: dict[int, int] = {}
        self.killed: list[int] = []
        self.dead: set[int] = set()

    def watchdog(self, *lanes: Hand, lane_bytes: int | None = 1000) -> Watchdog:
        return Watchdog(
            lanes,
            item_timeout_s=3,
            lane_bytes=lane_bytes,
            resident_bytes=lambda pid: self.taken.get(pid, 0),
            is_alive=lambda pid: pid not in self.dead,
            kill=self.killed.append,
            clock=lambda: self.now,
        )

    def looks(self, watchdog: Watchdog, for_s: float) -> None:
        for _ in range(round(for_s / LOOK_S)):
            self.now += LOOK_S
            watchdog.look()


def test_what_a_child_has_in_hand_its_parent_sees_after_its_death() -> None:
    (hand,) = hands(1)
    child = os.fork()
    if child == 0:
        hand.open(os.getpid())
        hand.claimed(os.getpid(), 3)
        with hand.holding(5):
            os._exit(0)
    os.waitpid(child, 0)
    assert (hand.pid, hand.attempt, [held.n for held in hand.held()]) == (child, 3, [5])
    hand.open(9)
    assert (hand.pid, hand.attempt, hand.held()) == (9, 0, [])


def test_each_thread_has_its_own_item_and_one_too_many_has_none(hand: Hand) -> None:
    count = SLOTS + 2
    inside, ended = threading.Barrier(count + 1, timeout=20), threading.Event()

    def hold(n: int) -> None:
        with hand.holding(n):
            inside.wait()
            ended.wait(20)

    threads = [threading.Thread(target=hold, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    inside.wait()
    held = {item.n for item in hand.held()}
    assert len(held) == SLOTS
    assert held < set(range(count))
    ended.set()
    for thread in threads:
        thread.join()
    assert hand.held() == []


def test_any_number_of_threads_one_after_the_other_is_watched(hand: Hand) -> None:
    """As those of model versions that come and go."""
    seen: list[int] = []

    def hold(n: int) -> None:
        with hand.holding(n):
            seen.extend(held.n for held in hand.held())

    for n in range(3 * SLOTS):
        thread = threading.Thread(target=hold, args=(n,))
        thread.start()
        thread.join()
    assert seen == list(range(3 * SLOTS))


def test_lane_that_holds_an_item_for_too_long_is_killed_and_it_is_known_why(hand: Hand) -> None:
    machine = Machine()
    watchdog = machine.watchdog(hand)
    with hand.holding(0):
        machine.looks(watchdog, 2.9)
        assert machine.killed == []
        machine.looks(watchdog, 5)
    assert machine.killed == [41], "once"
    assert watchdog.why(41) == "it took longer than 3 s (TAGMILL_ITEM_TIMEOUT_S)"
    assert watchdog.why(41) is None


def test_lane_that_died_by_itself_was_not_ended(hand: Hand) -> None:
    machine = Machine()
    watchdog = machine.watchdog(hand)
    machine.dead.add(41)
    with hand.holding(0):
        machine.looks(watchdog, 5)
    assert (machine.killed, watchdog.why(41)) == ([], None)


def test_dead_process_is_no_living_one() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # dead, not buried
    assert not _is_alive(child)
    os.waitpid(child, 0)
    assert not _is_alive(child)
    assert _is_alive(os.getpid())


def test_lane_that_goes_from_item_to_item_lives(hand: Hand) -> None:
    machine = Machine()
    watchdog = machine.watchdog(hand)
    for n in range(20):
        with hand.holding(n):
            machine.looks(watchdog, 1)
    assert machine.killed == []


def test_time_in_which_the_watchdog_itself_was_stopped_does_not_count(hand: Hand) -> None:
    machine = Machine()
    watchdog = machine.watchdog(hand)
    with hand.holding(0):
        machine.looks(watchdog, 0.5)
        machine.now += 600
        watchdog.look()
        assert machine.killed == []


@pytest.mark.parametrize(("limit", "killed"), [(1000, [41]), (None, [])])
def test_lane_that_takes_too_much_memory_is_killed(
    hand: Hand, limit: int | None, killed: list[int]
) -> None:
    machine = Machine()
    watchdog = machine.watchdog(hand, lane_bytes=limit)
    machine.taken[41] = 1000
    watchdog.look()
    assert machine.killed == []
    machine.taken[41] = 1001
    watchdog.look()
    watchdog.look()
    assert machine.killed == killed
    if limit:
        why = "1,001 bytes of memory were taken, the limit is 1,000 (TAGMILL_LANE_BYTES)"
        assert watchdog.why(41) == why


def test_lane_that_may_not_be_ended_leaves_the_others_watched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = hands(2)
    first.open(41)
    second.open(42)
    killed: list[int] = []

    def kill(pid: int) -> None:
        if pid == 41:
            raise PermissionError("not ours")
        killed.append(pid)

    watchdog = Watchdog(
        [first, second],
        item_timeout_s=3,
        lane_bytes=1000,
        resident_bytes=lambda _: 2000,
        is_alive=lambda _: True,
        kill=kill,
    )
    watchdog.look()
    watchdog.look()
    assert killed == [42]
    assert caplog.text.count("lane pid=41 cannot be watched") == 1, "no more than once"


def test_reasons_of_lanes_that_are_gone_are_forgotten(hand: Hand) -> None:
    machine = Machine()
    watchdog = machine.watchdog(hand)
    machine.taken[41] = 2000
    watchdog.look()
    hand.open(43)
    watchdog.look()
    assert watchdog.why(41) is None


def test_hand_that_was_never_opened_is_left_alone() -> None:
    machine = Machine()
    machine.taken[0] = 2000
    machine.looks(machine.watchdog(*hands(2)), 5)
    assert machine.killed == []
