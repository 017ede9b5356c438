"""A lane: takes one chunk at a time from claim to commit. Knows nothing of Celery."""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

from tagmill.contract import (
    ChunkMessage,
    ChunkSummary,
    ChunkTimings,
    ClaimedChunk,
)
from tagmill.errors import ClaimLost, ModelAway, ModelUnavailable
from tagmill.patience import Patience
from tagmill.registry import open_registry
from tagmill.settings import Settings
from tagmill.store import LaneNote, LaneState, Store
from tagmill.store.losses import is_given_up
from tagmill.version import __version__
from tagmill_worker.chunk import ChunkLoop, Labelled
from tagmill_worker.hands import Hand
from tagmill_worker.heartbeat import Heartbeat
from tagmill_worker.loading import Loader

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

STORE_WAIT_S = 300.0
"""For how long a lane waits for a store that is away, with what is done in its hand: a database
that is started again is back by then, and a lane is not yet taken for one that hangs (`heartbeat`).
"""

RESERVE_S = 60.0
"""Of a chunk's time limit, in which no wait goes on: the last pause and the last try fit in, and
whoever is still waiting would be killed with its work."""

REGISTRY_PAUSE_S = 10.0
"""Before a chunk whose model cannot be had for now is handed on, half of that more or less."""


class Lane:
    """One lane of this process.

    Attributes:
        name: as below.
        store: as below.

    Args:
        name: who it is in ledger and logs, as ``label-cpu0@host``.
        settings: for the lease.
        store: where the ledger is.
        load: the loop for a model version.
        heartbeat: renews the lease of the chunk in hand.
        claimed: told the attempt of each claim, and 0 at its end.
        time_limit_s: after that long on one chunk the lane is killed.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
        chance: in [0, 1), for pauses that differ.
    """

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        store: Store,
        load: Callable[[str], ChunkLoop],
        heartbeat: Heartbeat,
        claimed: Callable[[int], None] = lambda _: None,
        time_limit_s: float = math.inf,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.store = store
        self._settings = settings
        self._load = load
        self._heartbeat = heartbeat
        self._claimed = claimed
        self._clock = clock
        self._sleep = sleep
        self._time_limit_s = time_limit_s
        self._chance = chance
        self._waits_until = math.inf
        self._ended_at: float | None = None
        self._commit_s = 0.0

    def warm_up(self, model: str) -> None:
        """Load a model version and run it once, so that the first chunk finds it ready.

        Raises:
            ModelUnavailable: if it cannot be loaded.
        """
        self._load(model)
        self._heartbeat.loaded(model)

    def begin(self) -> None:
        """Begin to say that this lane lives."""
        self._heartbeat.start()

    def ready(self) -> None:
        """Say that it takes work from now on."""
        self._heartbeat.ended(0)
        self._heartbeat.beat()

    def end(self) -> None:
        """Take the lane off the list, after its last chunk."""
        self._heartbeat.stop()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Have a training in hand, which a worker that is told to stop waits for, and not long."""
        self._claimed(1)
        self._heartbeat.trains(True)
        try:
            yield
        finally:
            self._claimed(0)
            self._heartbeat.trains(False)

    def do(self, message: ChunkMessage) -> list[ChunkMessage]:
        """Do a chunk, from claim to commit. A job whose model cannot be loaded is paused.

        Args:
            message: names the chunk.

        Returns:
            Messages to send for chunks that this one was split into.

        Raises:
            StoreError: if the store stays away, or cannot be used; the chunk stays claimed until
                its lease ends.
        """
        asked_at = self._clock()
        self._waits_until = asked_at + self._time_limit_s - RESERVE_S
        claim = self._patient(
            self.store.ledger.claim,
            message.job,
            message.seq,
            lane=self.name,
            lease_s=self._settings.lease_s,
        )
        waiting_s = self._clock() - (self._ended_at or asked_at)
        if claim is None:
            log.info("nothing to do job=%s chunk=%d", message.job, message.seq)
            return []
        committed = 0
        self._heartbeat.took(claim)
        self._claimed(claim.attempt)
        try:
            if is_given_up(claim):
                return self._split(claim)
            loop = self._load(claim.model)
            labelled = loop.run(claim.items, top_k=claim.top_k, moved=self._heartbeat.moved)
            later = self._commit(claim, labelled, waiting_s)
            committed = len(claim.items) - later
        except ClaimLost as lost:
            log.warning("dropped: %s", lost)
        except ModelAway as error:
            log.warning("handed on: %s job=%s chunk=%d", error, claim.job, claim.seq)
            self._sleep(REGISTRY_PAUSE_S * (0.5 + self._chance()))
            self._patient(self.store.ledger.release, claim)
            return [replace(message, priority=claim.priority)]
        except ModelUnavailable as error:
            # Other lanes would hardly do better; other jobs have other models.
            log.error("job paused: %s job=%s", error, claim.job)
            self._patient(self.store.jobs.pause, claim.job, str(error))
            self._patient(self.store.ledger.release, claim)
        finally:
            self._claimed(0)
            self._heartbeat.ended(committed)
            self._ended_at = self._clock()
        return []

    def _patient(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """What the call returns, once the store is there; no longer than the chunk may take."""
        most_s = min(STORE_WAIT_S, self._waits_until - self._clock())
        patience = Patience(most_s=most_s, clock=self._clock, sleep=self._sleep)
        return patience(call, *arguments, **named)

    def _split(self, claim: ClaimedChunk) -> list[ChunkMessage]:
        seqs = self._patient(self.store.losses.split, claim, lane=self.name)
        log.error(
            "chunk lost its lane %d times, split job=%s chunk=%d items=%d into=%s",
            claim.losses,
            claim.job,
            claim.seq,
            len(claim.items),
            list(seqs),
        )
        return [ChunkMessage(job=claim.job, seq=seq, priority=claim.priority) for seq in seqs]

    def _commit(self, claim: ClaimedChunk, labelled: Labelled, waiting_s: float) -> int:
        """Commit a chunk; how many of its items were put off."""
        spent = labelled.spent
        failures = {
            code: count
            for code, count in labelled.failures.items()
            if code not in claim.put_off_codes
        }
        summary = ChunkSummary(
            lane=self.name,
            timings=ChunkTimings(
                fetch_s=round(spent.fetch_s, 6),
                decode_s=round(spent.decode_s, 6),
                predict_s=round(spent.predict_s, 6),
                commit_s=round(self._commit_s, 6),
                waiting_s=round(waiting_s, 6),
            ),
            seen=labelled.seen,
            failures=failures,
        )
        started = self._clock()
        self._commit_s = 0.0  # told in the summary above, once
        later = self._patient(self.store.ledger.commit, claim, labelled.outcomes, summary)
        self._commit_s = self._clock() - started
        log.info(
            "labelled job=%s chunk=%d items=%d failed=%d put_off=%d fetch_s=%.3f decode_s=%.3f "
            "predict_s=%.3f commit_s=%.3f waiting_s=%.3f",
            claim.job,
            claim.seq,
            len(claim.items),
            sum(failures.values()),
            later,
            spent.fetch_s,
            spent.decode_s,
            spent.predict_s,
            self._commit_s,
            waiting_s,
        )
        return later


def lane_of(
    settings: Settings,
    name: str,
    *,
    device: str = "",
    time_limit_s: float,
    decode_threads: int = 0,
    hand: Hand,
    alive: Callable[[], None] = lambda: None,
) -> Lane:
    """A lane with the store and the registry that the settings name, its heart beating.

    Args:
        settings: of the worker.
        name: of the lane.
        device: that it is pinned to, for people.
        time_limit_s: of a chunk.
        decode_threads: as `ChunkLoop` takes them.
        hand: of the lane, opened here.
        alive: called while it is idle or gets on, every few seconds.
    """
    store = Store(settings.store_address)
    pid = os.getpid()
    hand.open(pid)
    heartbeat = Heartbeat(
        LaneNote(name=name, pid=pid, device=device, state=LaneState.STARTING, release=__version__),
        store=store,
        lease_s=settings.lease_s,
        alive=alive,
    )
    return Lane(
        name,
        settings=settings,
        store=store,
        load=Loader(
            settings,
            open_registry(settings),
            decode_threads=decode_threads,
            holding=hand.holding,
        ),
        heartbeat=heartbeat,
        claimed=partial(hand.claimed, pid),
        time_limit_s=time_limit_s,
    )
