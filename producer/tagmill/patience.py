"""Waiting for a store or a broker that is away: loudly, and without losing what is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from tagmill.errors import BrokerAway, StoreAway

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

MOST_WAIT_S = 900.0
"""A server that was started again, updated or moved is back by then."""

SAY_EVERY_S = 15.0
"""Between two sentences on what is still away."""

_AWAY = (StoreAway, BrokerAway)


class Patience:
    """Calls again what failed since the store or the broker is away, ever more slowly.

    Whatever else fails is not tried again: no room, a wrong password, another schema.

    Args:
        say: is told what is away, and when it is back; the log where none is given.
        most_s: for how long it is waited for.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        say: Callable[[str], None] = log.warning,
        *,
        most_s: float = MOST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._say = say
        self._most_s = most_s
        self._clock = clock
        self._sleep = sleep

    def __call__(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What the call returns; it may be made several times.

        Raises:
            StoreAway, BrokerAway: if the store or the broker stays away.
        """
        began = self._clock()
        said_at: float | None = None

        def say(state: RetryCallState) -> None:
            nonlocal said_at
            now = self._clock()
            if said_at is None or now - said_at >= SAY_EVERY_S:
                said_at = now
                why = state.outcome.exception() if state.outcome else None
                self._say(
                    f"{why}; waiting for it, {now - began:.0f} of {self._most_s:.0f} s so far; "
                    "what is written is not lost"
                )

        found = Retrying(
            stop=lambda _: self._clock() - began >= self._most_s,
            wait=wait_random_exponential(multiplier=0.5, max=10.0),
            retry=retry_if_exception_type(_AWAY),
            before_sleep=say,
            sleep=self._sleep,
            reraise=True,
        )(call, *arguments, **named)
        if said_at is not None:
            self._say(f"it is back after {self._clock() - began:.0f} s: going on")
        return found


AT_ONCE = Patience(most_s=0.0)
"""No patience: what is away ends the work at once."""
