"""Lost lanes: their parent tells the ledger which images they had in hand, and why they died."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing

from tagmill.contract import ChunkMessage
from tagmill.errors import MissingError
from tagmill.store import Store
from tagmill_worker.hands import Hand
from tagmill_worker.slots import Slot
from tagmill_worker.watchdog import Watchdog

log = logging.getLogger(__name__)


class LostLanes:
    """The lanes of a worker, as far as they were lost. For the lanes' parent process.

    Args:
        slot: of the lanes.
        hands: of the lanes, in the same order.
        watchdog: which may have ended them.
        open_store: the store, for a moment: no connection may be open when a lane is forked.
        send: sends messages for chunks that wait.
    """

    def __init__(
        self,
        slot: Slot,
        hands: Sequence[Hand],
        watchdog: Watchdog,
        *,
        open_store: Callable[[], Store],
        send: Callable[[Sequence[ChunkMessage]], None],
    ) -> None:
        self._slot = slot
        self._hands = hands
        self._watchdog = watchdog
        self._open_store = open_store
        self._send = send

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
        try:
            with closing(self._open_store()) as store:
                waiting = store.losses.note(
                    message.job,
                    message.seq,
                    lane=lane,
                    attempt=hand.attempt,
                    in_hand=in_hand,
                    why=why,
                )
            self._send(waiting)
        except MissingError as error:
            log.warning("the lost lane is not noted, its chunk's lease runs out: %s", error)
