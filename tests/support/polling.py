"""Waiting for what another process does, and doing without what a machine lacks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

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


def missing(what: str) -> NoReturn:
    """A thing that only some machines have: no reason to fail on a laptop, one in CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
