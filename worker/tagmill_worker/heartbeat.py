"""The heartbeat of a lane: says that it lives, and renews the lease of the chunk in hand."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from tagmill.contract import ClaimedChunk
from tagmill.errors import StoreError
from tagmill.store import LaneNote, LaneState, Store

log = logging.getLogger(__name__)

MOST_BEAT_S = 5.0
"""Between two beats at the most."""

STALLED_S = 240.0
"""A lane that got on with nothing for that long stops saying that it is alive: well above what it
tries for when nothing can be read. Its silence is noticed two minutes later (`lane_files`)."""

_WINDOW_S = 60.0  # of the rate
_PAUSE_S = 5.0


class Heartbeat:
    """Beats in a thread of its own, from `start` to `stop`.

    A lease is renewed several times in its length, so that a store that is away for a moment costs
    no chunk. A process that is stopped or dead renews nothing.

    Args:
        note: what the lane says of itself at its start.
        store: where it says so.
        lease_s: for how long a claim holds from each renewal on.
        alive: called at each beat while the lane is idle or gets on.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        note: LaneNote,
        *,
        store: Store,
        lease_s: float,
        alive: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._note = note
        self._store = store
        self._lease_s = lease_s
        self._alive = alive
        self._clock = clock
        self._claim: ClaimedChunk | None = None
        self._moved_at = clock()
        self._done: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._ended = False
        self._due = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """End, and take the lane off the list."""
        self._ended = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(MOST_BEAT_S)
        try:
            self._store.lanes.leave(self._note.name, pid=self._note.pid)
        except StoreError as error:
            log.warning("not taken off the list of lanes: %s", error)

    def loaded(self, model: str) -> None:
        """A model version is loaded, as ``name@number``."""
        self._note = replace(self._note, model=model)

    def took(self, claim: ClaimedChunk) -> None:
        """A chunk is in hand now."""
        now, is_due = self._clock(), False
        if now - self._moved_at > _PAUSE_S:  # the rate is that of a lane at work
            self._done = deque([(now, self._note.done)])
            is_due = True
        self._claim = claim
        self._moved_at = now
        self._note = replace(
            self._note,
            state=LaneState.LABELLING,
            job_id=claim.job,
            seq=claim.seq,
            model=claim.model,
        )
        if is_due:  # whoever looks wants to see that it is at work
            self._due.set()

    def moved(self) -> None:
        """The lane got on with the chunk in hand."""
        self._moved_at = self._clock()

    def ended(self, items: int) -> None:
        """No chunk is in hand any more.

        Args:
            items: whose outcomes were committed.
        """
        self._claim = None
        self._moved_at = now = self._clock()
        done = self._note.done + items
        self._done.append((now, done))
        while len(self._done) > 2 and self._done[0][0] < now - _WINDOW_S:
            self._done.popleft()
        self._note = replace(self._note, state=LaneState.IDLE, job_id=None, seq=None, done=done)

    def trains(self, at_work: bool) -> None:
        """A training is in hand now, or no more; it has a lease of its own."""
        state = LaneState.TRAINING if at_work else LaneState.IDLE
        self._note = replace(self._note, state=state)
        self._due.set()

    def beat(self) -> None:
        """Beat once: what the thread does every few seconds."""
        claim, now = self._claim, self._clock()
        then, before = self._done[0]
        recent = [done for at, done in self._done if at >= now - _WINDOW_S]
        rate = (recent[-1] - before) / (now - then) if recent and now > then else 0.0
        try:
            holds = self._store.lanes.note(
                replace(self._note, rate=rate), claim=claim, lease_s=self._lease_s
            )
        except StoreError as error:
            log.warning("no heartbeat: %s", error)
        else:
            if not holds and claim is self._claim:
                log.warning(
                    "the claim is over job=%s chunk=%d", claim and claim.job, claim and claim.seq
                )
        if claim is None or now - self._moved_at < STALLED_S:
            self._alive()

    def _run(self) -> None:
        while True:
            self._due.wait(min(MOST_BEAT_S, self._lease_s / 4))
            self._due.clear()
            if self._ended:
                return
            self.beat()
