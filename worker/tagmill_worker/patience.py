"""How long a lane tries for what it cannot read."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from tagmill.contract import ErrorCode, Item
from tagmill.errors import TransientItemError
from tagmill_worker.fetch import Fetched, is_remote

TRIES = 3
"""Of an item, while others can be read."""

OUTAGE_S = 90.0
"""While nothing far away can be read for that long, items are tried on: a server that is started
again costs no image. After that the rest of the chunk fails at once, well before its time limit."""


class Patience:
    """Fetches the items of one chunk, failures that may pass once more. Any thread may use it.

    Args:
        fetch: an item's bytes. May raise `ItemError`.
        moved: called when an item was read.
        clock: seconds, monotonic.
        sleep: waits that many seconds before another try.
    """

    def __init__(
        self,
        fetch: Callable[[Item], Fetched],
        *,
        moved: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._fetch = fetch
        self._moved = moved
        self._clock = clock
        self._sleep = sleep
        self._read_at = clock()
        self._wait = wait_random_exponential(multiplier=0.2, max=5.0)
        self._retried = retry_if_exception_type(TransientItemError)

    def __call__(self, item: Item) -> Fetched:
        """Read one item.

        Raises:
            ItemError: what is wrong with it, or that it cannot be read for now.
        """
        is_far = is_remote(item)
        if is_far and self._is_over():
            raise TransientItemError(
                ErrorCode.UNAVAILABLE, f"not tried: nothing could be read for {OUTAGE_S:.0f} s"
            )
        began = self._read_at

        def is_enough(state: RetryCallState) -> bool:
            others_are_read = not is_far or self._read_at > began
            return self._is_over() or (others_are_read and state.attempt_number >= TRIES)

        patient = Retrying(
            stop=is_enough, wait=self._wait, retry=self._retried, sleep=self._sleep, reraise=True
        )
        fetched = patient(self._fetch, item)
        if is_far:
            self._read_at = self._clock()
            self._moved()
        return fetched

    def _is_over(self) -> bool:
        return self._clock() - self._read_at > OUTAGE_S
