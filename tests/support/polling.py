"""Waiting for what another process does: looking again until it is so, or a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], *, within_s: float = 60.0) -> T:
    """The first true thing that ``look`` returns."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not so within {within_s} s"
        time.sleep(0.02)
