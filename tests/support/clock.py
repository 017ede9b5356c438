"""A clock for tests, so that nothing waits."""

from __future__ import annotations


class Time:
    """A clock that only sleeping moves, or whoever adds to ``now_s``."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
