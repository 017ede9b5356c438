"""The ledger against a model of it: whatever happens in whatever order, no item is lost or doubled.

Hypothesis makes up what happens. The broker delivers any message at any time and many times; a lane
that dies is a claim that is not used any more, one that was taken for dead a claim used late.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import hypothesis
import pytest
import sqlalchemy
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.ledger import MODEL, SUMMARY, claim, ending_in, items, job_with, let_time_pass
from support.ledger_check import LedgerCheck
from support.ledger_model import Clock, JobModel

from tagmill.contract import BY_HAND, ChunkMessage, ClaimedChunk, ErrorCode, JobState, Outcome
from tagmill.errors import ClaimLost
from tagmill.store import LaneNote, LaneState, Page, Store
from tagmill.store.losses import is_given_up
from tagmill.store.schema import jobs

MOST_ITEMS = 3
"""Of a chunk: two halves, of which one can be halved again."""

A_WHILE_S = 210.0
"""Longer than a put-off and the shorter lease, and by far: what a test takes is no matter."""

LEASES_S = (100.0, 300.0)
BREAKER = 4
ROUNDS = 10
"""Of ticks, in which every job must end."""

NOTE = LaneNote(name="lane", pid=1, device="", state=LaneState.LABELLING)
CODES = (None, ErrorCode.FORBIDDEN, ErrorCode.UNAVAILABLE)
LATE = ("nothing", "end", "note_lost", "renew", "release")
"""What a lane does that was taken for dead, when another has its chunk."""

which = st.sampled_from([0, 1])
leases = st.sampled_from(LEASES_S)
mixed = st.lists(st.sampled_from(CODES), min_size=MOST_ITEMS, max_size=MOST_ITEMS)
endings = mixed | st.sampled_from(CODES).map(lambda code: [code] * MOST_ITEMS)
messages = st.tuples(which, st.integers(0, 5))
hands = st.sets(st.integers(0, MOST_ITEMS), max_size=2)


class Ledger(RuleBasedStateMachine):
    """Two jobs: one that may end at any time, and one that is followed and may be cancelled.

    Args:
        store: prepared, with no job that waits for lanes.
        earlier: the outcomes of a job that is done.
        earlier_id: of that job.
    """

    claims: Bundle[ClaimedChunk] = Bundle("claims")

    def __init__(self, store: Store, earlier: Sequence[Outcome], earlier_id: str) -> None:
        super().__init__()
        self.store = store
        self.earlier = earlier
        self.earlier_id = earlier_id
        self.check = LedgerCheck(store)
        self.clock = Clock()
        self.jobs: list[JobModel] = []
        self.pages: list[tuple[int, Page]] = []

    @initialize(breaker=st.sampled_from([None, BREAKER]))
    def begin(self, breaker: int | None) -> None:
        for follow_s in (None, 60.0):
            made = self.store.jobs.create(
                source="file:///x", model=MODEL, top_k=5, breaker=breaker, follow_s=follow_s
            )
            self.jobs.append(
                JobModel(made.id, self.clock, breaker=breaker, is_followed=follow_s is not None)
            )
            self.append(*self.listed(len(self.jobs) - 1, [MOST_ITEMS], [], is_last=False))

    # Producers, of which one may append a page twice, or to a listing that went on meanwhile

    @rule(
        job=which,
        sizes=st.lists(st.integers(1, MOST_ITEMS), max_size=2),
        known=st.lists(st.integers(0, len(CODES) - 1), max_size=2),
        is_last=st.booleans(),
        late=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def list_on(
        self, job: int, sizes: list[int], known: list[int], is_last: bool, late: int
    ) -> None:
        """Append the page, or where it is ``late`` one that was listed that many pages ago."""
        self.listed(job, sizes, known, is_last=is_last)
        self.append(*self.pages[-1 - late % len(self.pages)])

    def listed(
        self, job: int, sizes: list[int], known: list[int], *, is_last: bool
    ) -> tuple[int, Page]:
        model = self.jobs[job]
        starts = [len(model.uris) + sum(sizes[:index]) for index in range(len(sizes) + 1)]
        page = Page(
            chunks=[items(size, start) for size, start in zip(sizes, starts, strict=False)],
            skipped=[(n, self.earlier_id, other) for n, other in enumerate(known, starts[-1])],
            cursor=None if is_last and not model.is_followed else f"page {len(self.pages)}",
            after=model.cursor,
        )
        self.pages.append((job, page))
        return job, page

    def append(self, job: int, page: Page) -> None:
        model = self.jobs[job]
        seqs = self.store.ledger.append(model.id, page)
        assert seqs == model.append(page, [self.earlier[other] for _, _, other in page.skipped])

    # Lanes

    @rule(target=claims, named=messages, lease_s=leases)
    def deliver(self, named: tuple[int, int], lease_s: float) -> object:
        return self.claim(self.message(*named), lease_s=lease_s)

    @rule(target=claims, claim=claims, lease_s=leases, late=st.sampled_from(LATE))
    def overtake(self, claim: ClaimedChunk, lease_s: float, late: str) -> object:
        """A lane is taken for dead, which it may not be."""
        self.let_time_pass()
        taken = self.claim(ChunkMessage(job=claim.job, seq=claim.seq), lease_s=lease_s)
        if late == "end":
            self.end(claim, [None] * MOST_ITEMS)
        elif late == "note_lost":
            self.note_lost(claim, {0})
        elif late == "renew":
            self.renew(claim, lease_s)
        elif late == "release":
            self.release(claim)
        return taken

    def claim(self, message: ChunkMessage, *, lease_s: float) -> object:
        taken = self.store.ledger.claim(message.job, message.seq, lane="lane", lease_s=lease_s)
        chunk = self.of(message).claim(message.seq, lease_s=lease_s)
        if taken is None or chunk is None:
            assert taken is chunk, "a chunk was had by whom it should not, or not by whom it should"
            return multiple()
        numbers = tuple(item.n for item in taken.items)
        assert (numbers, taken.attempt) == (chunk.items, chunk.attempt)
        assert (taken.losses, taken.was_put_off) == (chunk.losses, chunk.was_put_off)
        return taken

    @rule(claim=claims, lease_s=leases)
    def renew(self, claim: ClaimedChunk, lease_s: float) -> None:
        renewed = self.store.lanes.note(NOTE, claim=claim, lease_s=lease_s)
        assert renewed is self.of(claim).renew(claim, lease_s=lease_s)

    @rule(claim=claims, codes=endings)
    def end(self, claim: ClaimedChunk, codes: list[ErrorCode | None]) -> None:
        """What a lane does with a claim, be it late: split it where it is given up, or commit."""
        model = self.of(claim)
        holds = model.holds(claim)
        try:
            if is_given_up(claim):
                seqs = list(self.store.losses.split(claim, lane="lane"))
                assert holds, "a late split counted"
                assert seqs == model.split(claim)
                return
            mine = codes[: len(claim.items)]
            later = self.store.ledger.commit(claim, ending_in(claim, mine), SUMMARY)
            assert holds, "a late commit counted"
            assert later == model.commit(claim, mine)
        except ClaimLost:
            assert not holds, "a commit in time was refused"

    @rule(claim=claims)
    def release(self, claim: ClaimedChunk) -> None:
        self.store.ledger.release(claim)
        self.of(claim).release(claim)

    @rule(claim=claims, in_hand=hands)
    def note_lost(self, claim: ClaimedChunk, in_hand: set[int]) -> None:
        numbers = dict(enumerate(item.n for item in claim.items))
        held = [numbers.get(index, 10_000) for index in in_hand]  # some are none of the chunk's
        told = self.store.losses.note(
            claim.job, claim.seq, lane="lane", attempt=claim.attempt, in_hand=held, why="killed"
        )
        model = self.of(claim)
        assert list(told) == model.messages(model.note_lost(claim, held))

    @rule(named=messages, codes=endings)
    def label(self, named: tuple[int, int], codes: list[ErrorCode | None]) -> None:
        """From claim to commit, undisturbed."""
        self.label_chunk(self.message(*named), codes)

    @rule(named=messages, in_hand=hands)
    def die(self, named: tuple[int, int], in_hand: set[int]) -> None:
        """From claim to a death that is noticed."""
        taken = self.claim(self.message(*named), lease_s=LEASES_S[0])
        if isinstance(taken, ClaimedChunk):
            self.note_lost(taken, in_hand)

    def label_chunk(self, message: ChunkMessage, codes: list[ErrorCode | None]) -> None:
        taken = self.claim(message, lease_s=LEASES_S[0])
        if isinstance(taken, ClaimedChunk):
            self.end(taken, codes)

    # What goes on beside them

    @rule(is_long=st.booleans())
    def tick(self, is_long: bool) -> None:
        if is_long:
            self.let_time_pass()
        self.named_by_tick()

    @rule(job=which, held_too=st.booleans())
    def send_all(self, job: int, held_too: bool) -> None:
        model, retries = self.jobs[job], self.store.retries
        told = retries.release_all(model.id) if held_too else retries.waiting(model.id)
        seqs = model.release_all() if held_too else model.waiting()
        assert told == model.messages(seqs)

    @precondition(lambda self: any(model.failed or model.taken_over for model in self.jobs))
    @rule(
        job=which,
        chunk_items=st.integers(1, MOST_ITEMS),
        only=st.sampled_from([None, None, {ErrorCode.FORBIDDEN}]),
    )
    def retry(self, job: int, chunk_items: int, only: set[ErrorCode] | None) -> None:
        model = self.jobs[job]
        count = self.store.retries.requeue_failed(model.id, chunk_items=chunk_items, codes=only)
        assert count == model.requeue_failed(only, chunk_items=chunk_items)

    @rule(job=which, do=st.sampled_from(["resume", "resume", "pause", "cancel"]))
    def steer(self, job: int, do: str) -> None:
        model, jobs = self.jobs[job], self.store.jobs
        if do == "cancel" and job == 1:
            assert jobs.cancel(model.id) is model.set(state=JobState.CANCELLED)
        elif do == "pause":
            assert jobs.pause(model.id, BY_HAND) is model.set(is_paused=True)
        else:
            assert jobs.resume(model.id) is model.set(is_paused=False)

    @invariant()
    def every_item_is_in_one_place(self) -> None:
        self.check.compare(self.jobs)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and self.jobs:  # else it would hide what is wrong
                self.go_through()
        finally:
            mine = [model.id for model in self.jobs]
            with self.store.database.write() as connection:
                connection.execute(sqlalchemy.delete(jobs).where(jobs.c.id.in_(mine)))

    def go_through(self) -> None:
        """From whatever state that was, a tick and lanes that work bring every job to its end."""
        for job, model in enumerate(self.jobs):
            model.is_followed = False
            self.append(*self.listed(job, [1], [], is_last=True))
        for _ in range(ROUNDS):
            for job in range(len(self.jobs)):
                self.steer(job, "resume")
            for message in self.named_by_tick():
                self.label_chunk(message, [None] * MOST_ITEMS)
            if all(model.state.is_finished for model in self.jobs):
                break
            self.let_time_pass()
        self.every_item_is_in_one_place()
        for model in self.jobs:
            if model.state is not JobState.CANCELLED:
                assert self.store.jobs.get(model.id).state is JobState.DONE
                found = [result.n for result in self.store.outcomes.results(model.id)]
                assert found == list(range(len(model.uris)))

    def let_time_pass(self) -> None:
        self.clock.now += A_WHILE_S
        let_time_pass(self.store, A_WHILE_S)

    def named_by_tick(self) -> list[ChunkMessage]:
        expired = self.store.retries.release_expired()
        wanted = [each for job in self.jobs for each in job.messages(job.release_expired())]
        assert Counter(expired) == Counter(wanted)
        queued = self.store.retries.queued()
        wanted = [each for job in self.jobs for each in job.messages(job.queued())]
        assert Counter(queued) == Counter(wanted)
        return [*expired, *queued]

    def message(self, job: int, ago: int) -> ChunkMessage:
        """Of one of a job's newest chunks."""
        model = self.jobs[job]
        last = len(model.chunks) - 1
        return ChunkMessage(job=model.id, seq=last - ago % (last + 1))

    def of(self, named: ChunkMessage | ClaimedChunk) -> JobModel:
        return next(model for model in self.jobs if model.id == named.job)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store on each kind of database; a PostgreSQL need not keep what is told it."""
    url = sqlalchemy.make_url(store_url)
    if url.get_backend_name() == "postgresql":
        url = url.update_query_dict({"options": "-c synchronous_commit=off"})
    made = Store(url.render_as_string(hide_password=False))
    made.prepare()
    yield made
    made.close()


def test_no_item_is_lost_or_doubled_whatever_happens(store: Store) -> None:
    earlier = job_with(store, len(CODES))
    chunk = replace(claim(store, earlier), was_put_off=True)  # nothing is left for later
    known = ending_in(chunk, CODES)
    store.ledger.commit(chunk, known, SUMMARY)
    usual = hypothesis.settings(max_examples=40, derandomize=True)
    is_long = hypothesis.settings.get_current_profile_name() == "long"
    run_state_machine_as_test(
        lambda: Ledger(store, known, earlier.id),
        settings=hypothesis.settings(None if is_long else usual, stateful_step_count=50),
    )
