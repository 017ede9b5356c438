"""What the ledger promises, in plain Python: a job's items, chunks and outcomes as they must be.

Nothing of the store is used here but the numbers that the protocol is given. A method does what the
store's of the same name must do, and returns what it must return.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tagmill.contract import (
    TRANSIENT_CODES,
    UNFINISHED,
    ChunkMessage,
    ChunkState,
    ClaimedChunk,
    ErrorCode,
    JobState,
    Outcome,
)
from tagmill.store import Page
from tagmill.store.breaker import LEAST_FAILED
from tagmill.store.losses import MOST_LOSSES_ALONE
from tagmill.store.queued import NAMED_AGAIN_S, PUT_OFF_S

LONGEST_PUT_OFF_S = 1.5 * PUT_OFF_S

TRIES = 2
"""Of an item that cannot be read, before that is recorded."""


@dataclass(kw_only=True)
class Clock:
    """Seconds that have passed; all jobs of a store share it."""

    now: float = 0.0


@dataclass(kw_only=True)
class ChunkModel:
    """A chunk. ``ends`` is when its claim ends, or the wait of one that is not claimed."""

    items: tuple[int, ...]
    ends: float
    state: ChunkState = ChunkState.QUEUED
    attempt: int = 0
    losses: int = 0
    was_put_off: bool = False


class JobModel:
    """A job with its chunks.

    Args:
        id: of the job.
        clock: of the store.
        breaker: outcomes at which it pauses if nearly all are failures.
        is_followed: its listing has no end, and may be retried meanwhile.

    Attributes:
        uris: of every item listed, by number.
        ended: what became of the items, by number: an error code, or ``None`` where all is well.
        again: items that are to be done once more; what became of them stands until then.
        taken_over: items whose outcome is an earlier job's, as ``ended``.
    """

    def __init__(self, id: str, clock: Clock, *, breaker: int | None, is_followed: bool) -> None:
        self.id = id
        self.breaker = breaker
        self.is_followed = is_followed
        self.state = JobState.LISTING
        self.is_paused = False
        self.cursor: str | None = None
        self.uris: dict[int, str] = {}
        self.ended: dict[int, ErrorCode | None] = {}
        self.again: set[int] = set()
        self.taken_over: dict[int, ErrorCode | None] = {}
        self.chunks: list[ChunkModel] = []
        self._clock = clock
        self._lost_with: defaultdict[int, list[int]] = defaultdict(list)
        self._tries: defaultdict[int, int] = defaultdict(int)

    @property
    def is_open(self) -> bool:
        return self.state in UNFINISHED and not self.is_paused

    @property
    def pending(self) -> list[int]:
        return [seq for seq, each in enumerate(self.chunks) if each.state != ChunkState.DONE]

    @property
    def open_items(self) -> set[int]:
        return {n for seq in self.pending for n in self.chunks[seq].items}

    @property
    def failed(self) -> int:
        return sum(code is not None for n, code in self.ended.items() if n not in self.again)

    @property
    def ok(self) -> int:
        return len(self.ended) - len(self.again) - self.failed

    def holds(self, claim: ClaimedChunk) -> bool:
        chunk = self.chunks[claim.seq]
        may_hold = chunk.state in (ChunkState.CLAIMED, ChunkState.QUEUED)
        return may_hold and chunk.attempt == claim.attempt

    def is_past(self, chunk: ChunkModel) -> bool:
        return chunk.state != ChunkState.DONE and chunk.ends < self._clock.now

    def is_rightly_recorded(self, n: int) -> bool:
        """True where an item was tried often enough for what became of it."""
        if self.ended[n] is ErrorCode.LANE_LOST:
            sizes = self._lost_with[n]
            return len(sizes) >= MOST_LOSSES_ALONE and sizes.count(1) >= MOST_LOSSES_ALONE - 1
        return self.ended[n] not in TRANSIENT_CODES or self._tries[n] == TRIES

    def messages(self, seqs: Iterable[int]) -> list[ChunkMessage]:
        """What names chunks of it."""
        return [ChunkMessage(job=self.id, seq=seq) for seq in seqs]

    def append(self, page: Page, known: Sequence[Outcome]) -> range | None:
        """Go on with the listing; ``known`` are the outcomes that the page takes over."""
        if self.state is not JobState.LISTING or self.cursor != page.after:
            return None
        start = len(self.chunks)
        for chunk in page.chunks:
            self.uris |= {item.n: item.uri for item in chunk}
            self._add(item.n for item in chunk)
        for (n, _, _), outcome in zip(page.skipped, known, strict=True):
            self.uris[n] = outcome.uri
            self.taken_over[n] = outcome.error
        self.cursor = page.cursor
        if page.cursor is None:
            self.state = JobState.RUNNING if self.pending else JobState.DONE
            self.is_paused = self.is_paused and bool(self.pending)
        return range(start, len(self.chunks))

    def claim(self, seq: int, *, lease_s: float) -> ChunkModel | None:
        chunk = self.chunks[seq]
        is_taken = chunk.state == ChunkState.CLAIMED
        is_free = chunk.state == ChunkState.QUEUED or self.is_past(chunk)
        if not self.is_open or not is_free:
            return None
        if is_taken:
            self._lose(chunk)
        chunk.state = ChunkState.CLAIMED
        chunk.attempt += 1
        chunk.ends = self._clock.now + lease_s
        return chunk

    def renew(self, claim: ClaimedChunk, *, lease_s: float) -> bool:
        if not self.holds(claim):
            return False
        chunk = self.chunks[claim.seq]
        if chunk.state == ChunkState.QUEUED:
            chunk.losses -= 1
            for n in chunk.items:
                self._lost_with[n].pop()
        chunk.state = ChunkState.CLAIMED
        chunk.ends = self._clock.now + lease_s
        return True

    def commit(self, claim: ClaimedChunk, codes: Sequence[ErrorCode | None]) -> int:
        """End a chunk by a claim that holds."""
        chunk = self.chunks[claim.seq]
        found = dict(zip(chunk.items, codes, strict=True))
        failing = [n for n, code in found.items() if code in TRANSIENT_CODES]
        for n in failing:
            self._tries[n] += 1
        later = [] if chunk.was_put_off else failing
        if later:
            self._add(later, was_put_off=True)
            self.chunks[-1].state = ChunkState.PUT_OFF
            self.chunks[-1].ends = self._clock.now + LONGEST_PUT_OFF_S
        self._end(chunk, {n: code for n, code in found.items() if n not in later})
        return len(later)

    def release(self, claim: ClaimedChunk) -> None:
        if self.holds(claim):
            self._give_back(self.chunks[claim.seq])

    def split(self, claim: ClaimedChunk) -> list[int]:
        """Split a chunk by a claim that holds."""
        chunk = self.chunks[claim.seq]
        middle = len(chunk.items) // 2
        if not middle:
            self._end(chunk, dict.fromkeys(chunk.items, ErrorCode.LANE_LOST))
            return []
        return self._replace(chunk, [chunk.items[:middle], chunk.items[middle:]])

    def note_lost(self, claim: ClaimedChunk, in_hand: Collection[int]) -> list[int]:
        if not self.holds(claim):
            return []
        chunk = self.chunks[claim.seq]
        if chunk.state == ChunkState.CLAIMED:
            self._lose(chunk)
        suspects = [n for n in chunk.items if n in in_hand]
        rest = [n for n in chunk.items if n not in in_hand]
        if len(chunk.items) == 1 and chunk.losses >= MOST_LOSSES_ALONE:
            self._end(chunk, dict.fromkeys(chunk.items, ErrorCode.LANE_LOST))
            return []
        if suspects and rest:
            return self._replace(chunk, [rest], [[n] for n in suspects])
        self._give_back(chunk)
        return []

    def release_expired(self) -> list[int]:
        expired = [seq for seq, chunk in enumerate(self.chunks) if self.is_past(chunk)]
        if not self.is_open:
            return []
        for seq in expired:
            if self.chunks[seq].state == ChunkState.CLAIMED:
                self._lose(self.chunks[seq])
            self._queue(self.chunks[seq])
        return expired

    def queued(self) -> list[int]:
        if not self.is_open:
            return []
        return [seq for seq in self.pending if self.chunks[seq].state == ChunkState.QUEUED]

    def waiting(self) -> list[int]:
        return [
            seq
            for seq in self.pending
            if self.chunks[seq].state == ChunkState.QUEUED or self.is_past(self.chunks[seq])
        ]

    def release_all(self) -> list[int]:
        for seq in self.pending:
            chunk = self.chunks[seq]
            self._give_back(chunk)
            chunk.losses = 0
            for n in chunk.items:
                del self._lost_with[n][:]
        return self.pending

    def requeue_failed(self, codes: Collection[ErrorCode] | None, *, chunk_items: int) -> int:
        may_be = self.state in (JobState.RUNNING, JobState.DONE)
        if not may_be and not (self.state is JobState.LISTING and self.is_followed):
            return 0
        both = [*self.ended.items(), *self.taken_over.items()]
        asked = {n for n, code in both if code is not None and (codes is None or code in codes)}
        new = sorted(asked - self.open_items)
        for n in new:
            if self.taken_over.pop(n, None) is None:
                self.again.add(n)
            self._tries.pop(n, None)
            self._lost_with.pop(n, None)
        for start in range(0, len(new), chunk_items):
            self._add(new[start : start + chunk_items])
        if new and self.state is JobState.DONE:
            self.state = JobState.RUNNING
        return len(new)

    def set(self, *, state: JobState | None = None, is_paused: bool | None = None) -> bool:
        if self.state not in UNFINISHED:
            return False
        self.state = self.state if state is None else state
        self.is_paused = self.is_paused if is_paused is None else is_paused
        self.is_paused = self.is_paused and self.state in UNFINISHED
        return True

    def _add(self, items: Iterable[int], *, losses: int = 0, was_put_off: bool = False) -> None:
        ends = self._clock.now + NAMED_AGAIN_S
        self.chunks.append(
            ChunkModel(items=tuple(items), ends=ends, losses=losses, was_put_off=was_put_off)
        )

    def _give_back(self, chunk: ChunkModel) -> None:
        self._queue(chunk)
        chunk.attempt += 1

    def _queue(self, chunk: ChunkModel) -> None:
        chunk.state = ChunkState.QUEUED
        chunk.ends = self._clock.now + NAMED_AGAIN_S

    def _lose(self, chunk: ChunkModel) -> None:
        chunk.losses += 1
        for n in chunk.items:
            self._lost_with[n].append(len(chunk.items))

    def _replace(
        self,
        chunk: ChunkModel,
        parts: Sequence[Sequence[int]],
        suspects: Sequence[Sequence[int]] = (),
    ) -> list[int]:
        start = len(self.chunks)
        for items in parts:
            self._add(items, was_put_off=chunk.was_put_off)
        for items in suspects:
            self._add(items, losses=1, was_put_off=chunk.was_put_off)
        self._end(chunk, {})
        return list(range(start, len(self.chunks)))

    def _end(self, chunk: ChunkModel, found: dict[int, ErrorCode | None]) -> None:
        chunk.state = ChunkState.DONE
        self.ended |= found
        self.again -= found.keys()
        if not self.pending and self.state is JobState.RUNNING:
            self.state = JobState.DONE
            self.is_paused = False
        done = self.ok + self.failed
        if self.breaker is not None and done >= self.breaker:
            self.breaker = None
            nearly_all = self.failed >= LEAST_FAILED * (done + len(self.taken_over))
            self.is_paused = self.is_paused or (nearly_all and self.state in UNFINISHED)
