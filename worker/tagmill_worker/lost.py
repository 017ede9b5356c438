"""Lost lanes: their parent tells the ledger which images they had in hand, and why they died."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from billiard import Process

from tagmill.contract import ChunkMessage
from tagmill.errors import TagmillError
from tagmill.store import Store
from tagmill_worker.hands import Hand
from tagmill_worker.slots import Slot
from tagmill_worker.watchdog import Watchdog

log = logging.getLogger(__name__)

TELLING_S = 5.0
"""For how long a worker waits until the ledger is told; it hands out nothing meanwhile."""

_ENDING_S = 1.0
_NOT_NOTED = "the lost lane is not noted, its chunk's lease runs out"


class LostLanes:
    """The lanes of a worker, as far as they were lost. For the lanes' parent process.

    Args:
        slot: of the lanes.
        hands: of the lanes, in the same order.
        watchdog: which may have ended them.
        open_store: the store.
        send: sends messages for chunks that wait.
        telling_s: for how long the ledger may take.
    """

    def __init__(
        self,
        slot: Slot,
        hands: Sequence[Hand],
        watchdog: Watchdog,
        *,
        open_store: Callable[[], Store],
        send: Callable[[Sequence[ChunkMessage]], None],
        telling_s: float = TELLING_S,
    ) -> None:
        self._slot = slot
        self._hands = hands
        self._watchdog = watchdog
        self._open_store = open_store
        self._send = send
        self._telling_s = telling_s

    def note(self, message: ChunkMessage, *, pid: int, why: str) -> None:
        """Tell the ledger of a lane that was lost.

        Where that fails, the chunk's lease runs out and the tick queues it.

        Args:
            message: of the chunk that it had.
            pid: of its process.
            why: it died, as a phrase.
        """
        index = next((i for i, hand in enumerate(self._hands) if hand.pid == pid), None)
        if index is None:
            return
        hand = self._hands[index]
        lane = self._slot.lane_name(index)
        why = self._watchdog.why(pid) or why
        in_hand = [held.n for held in hand.held()]
        log.error(
            "lane lost lane=%s pid=%d job=%s chunk=%d items_in_hand=%s: %s",
            lane,
            pid,
            message.job,
            message.seq,
            in_hand,
            why,
        )
        told = {"lane": lane, "attempt": hand.attempt, "in_hand": in_hand, "why": why}
        # No thread: no connection may be open and no lock be held here when a lane is forked.
        telling = Process(target=self._tell, args=(message,), kwargs=told, daemon=True)
        telling.start()
        telling.join(self._telling_s + _ENDING_S)
        if telling.exitcode != 0:
            log.warning("%s: not within %.0f s", _NOT_NOTED, self._telling_s)

    def _tell(self, message: ChunkMessage, **told: Any) -> None:
        """In a process of its own, which ends where the store or the broker let it wait."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self._telling_s)
        try:
            with closing(self._open_store()) as store:
                waiting = store.losses.note(message.job, message.seq, **told)
            self._send(waiting)
        except TagmillError as error:
            log.warning("%s: %s", _NOT_NOTED, error)
