"""What each lane has in hand, in memory that its worker's parent process sees too.

A lane that dies cannot say on which image, nor can one that hangs; its parent reads it here.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

SLOTS = 16
"""Items that one lane can have in hand at once; what is beyond them is not watched."""

_LANE = struct.Struct("=qq")  # process id, attempt of the claim
_SLOT = struct.Struct("=qd")  # n of the item + 1, or 0; when it was taken up
_BYTES = _LANE.size + SLOTS * _SLOT.size


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An item in a lane's hand.

    Attributes:
        n: of the item.
        slot: of the lane's, in which it is.
        since: when it was taken up, in seconds of a clock that all processes share.
    """

    n: int
    slot: int
    since: float


class Hand:
    """The hand of one lane: written by the lane's process, read by its parent.

    Args:
        memory: shared by both.
        offset: where in it the hand is.
    """

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self._free = deque(range(SLOTS))  # any thread may take one and give it back

    def open(self, pid: int) -> None:
        """Say which process the lane is, with nothing in hand."""
        self._memory[self._offset : self._offset + _BYTES] = bytes(_BYTES)
        _LANE.pack_into(self._memory, self._offset, pid, 0)

    def claimed(self, pid: int, attempt: int) -> None:
        """Say of which claim the items are that follow; 0 where none is held."""
        _LANE.pack_into(self._memory, self._offset, pid, attempt)

    @contextmanager
    def holding(self, n: int) -> Iterator[None]:
        """Have an item in hand, in any thread."""
        try:
            slot = self._free.pop()
        except IndexError:
            slot = None
        if slot is None:
            yield
            return
        at = self._offset + _LANE.size + slot * _SLOT.size
        _SLOT.pack_into(self._memory, at, n + 1, time.monotonic())
        try:
            yield
        finally:
            _SLOT.pack_into(self._memory, at, 0, 0.0)
            self._free.append(slot)

    @property
    def pid(self) -> int:
        """The lane's process; 0 before it has one."""
        return int(_LANE.unpack_from(self._memory, self._offset)[0])

    @property
    def attempt(self) -> int:
        """Of the claim in hand, 0 where there is none."""
        return int(_LANE.unpack_from(self._memory, self._offset)[1])

    def held(self) -> list[Held]:
        """The items in hand."""
        start = self._offset + _LANE.size
        slots = _SLOT.iter_unpack(self._memory[start : start + SLOTS * _SLOT.size])
        return [
            Held(n=mark - 1, slot=slot, since=since)
            for slot, (mark, since) in enumerate(slots)
            if mark
        ]


def unwatched(_: int) -> AbstractContextManager[None]:
    """What `Hand.holding` is to a lane that nobody watches."""
    return nullcontext()


def hands(lanes: int) -> list[Hand]:
    """Hands for the lanes of a worker, to be made before they are forked."""
    memory = mmap.mmap(-1, lanes * _BYTES)
    return [Hand(memory, index * _BYTES) for index in range(lanes)]
