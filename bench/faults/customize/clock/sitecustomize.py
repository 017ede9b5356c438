"""Shifts a program's clock by the seconds in FAULT_CLOCK_S; intervals are as long as ever.

Python imports this module at its start where its folder is on PYTHONPATH.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

SHIFT_S = int(os.environ["FAULT_CLOCK_S"])

_time, _time_ns = time.time, time.time_ns


class _Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


time.time = lambda: _time() + SHIFT_S
time.time_ns = lambda: _time_ns() + SHIFT_S * 10**9
datetime.datetime = _Shifted  # type: ignore[misc]
