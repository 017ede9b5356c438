"""Enqueueing: list a source, page by page, into the ledger, and wake the lanes up.

Each page is one transaction: its chunks, the items that need no new outcome, and the cursor.
Messages follow the transaction, so that whatever is in the broker is in the ledger.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from tagmill.chunk_sizes import LEAST_CHUNK_ITEMS, chunk_sizes
from tagmill.contract import ChunkMessage, Item, JobState
from tagmill.errors import SourceError, UsageError
from tagmill.patience import AT_ONCE, Patience
from tagmill.sources import Position, Source, readable
from tagmill.store import Job, Known, Page, Store

PAGE_ITEMS = 4096
"""Items of one transaction: large enough to hide its cost, small enough to hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a job would do, counted without doing it.

    Attributes:
        failed: of those skipped, the ones whose outcome is a failure.
        fresh_bytes: size of the files to label, as far as their versions tell.
        passed_over: how many entries of the source were left out, by reason.
    """

    listed: int
    skipped: int
    failed: int
    fresh: int
    fresh_bytes: int
    examples: tuple[str, ...]
    passed_over: Counter[str]


def enqueue(
    found: Iterator[tuple[str, str]],
    job: Job,
    *,
    store: Store,
    send: Callable[[Sequence[ChunkMessage]], None],
    lanes: int,
    chunk_items: int,
    on_page: Callable[[], None] = lambda: None,
    after: Position | None = None,
    least_items: int = LEAST_CHUNK_ITEMS,
    patient: Patience = AT_ONCE,
) -> None:
    """List a source into a job's chunks.

    Args:
        found: what a source yields: ``(uri, version)``; from ``after`` on, where that is given.
        job: a job that is listing.
        store: where it lives.
        send: wakes lanes up; called after each page that has chunks.
        lanes: that are expected to work.
        chunk_items: items of a chunk at the most.
        on_page: called after each page.
        after: where the listing of the job stands; see `position`.
        least_items: items of a chunk at the least.
        patient: waits for a store or a broker that is away.

    Raises:
        SourceError: if the source cannot be read.
        StoreError: if the store refuses.
        BrokerError: from ``send``.
        UsageError: if another producer is listing the job too.
    """
    is_first = True
    start = after.n if after else 0
    for page in _pages(found, job, store, start=start, patient=patient):
        fresh = [item for item in page.items if item.uri not in page.known]
        sizes = chunk_sizes(
            len(fresh),
            lanes=lanes,
            most=chunk_items,
            is_first=is_first,
            is_last=page.is_last,
            least=least_items,
        )
        rest = iter(fresh)
        chunks = [list(islice(rest, size)) for size in sizes]
        is_first = is_first and not chunks
        skipped = [
            (item.n, page.known[item.uri].job, page.known[item.uri].n)
            for item in page.items
            if item.uri in page.known
        ]
        last = None if page.is_last else Position(n=page.end, uri=page.items[-1].uri)
        written = Page(chunks=chunks, skipped=skipped, cursor=_cursor(last), after=_cursor(after))
        sent = append(store, job, written, patient)
        if sent is None:
            return  # the job was cancelled meanwhile
        after = last
        patient(send, sent)
        on_page()


def append(store: Store, job: Job, page: Page, patient: Patience) -> list[ChunkMessage] | None:
    """Write a page once, also where the store went away before it said that it had written it.

    Returns:
        What wakes lanes up for its chunks; ``None`` where the job is no longer listing.

    Raises:
        StoreError: if the store refuses, or stays away.
        UsageError: if another producer is listing the job too.
    """
    tries = 0

    def write() -> range | None:
        nonlocal tries
        tries += 1
        return store.ledger.append(job.id, page)

    seqs = patient(write)
    if seqs is not None:
        return messages(job, seqs)
    state = patient(store.jobs.get, job.id).state
    if state is JobState.LISTING:
        is_written = patient(store.jobs.cursor, job.id) == page.cursor
    else:
        is_written = page.cursor is None and state in (JobState.RUNNING, JobState.DONE)
    if tries > 1 and is_written:  # by a try whose answer was lost; which chunks are its, too
        return patient(store.retries.waiting, job.id)
    if state is JobState.LISTING:
        does = "is listing" if job.follow_s is None else "follows with"
        raise UsageError(f"another producer {does} job {job.id}: leave it to that one")
    return None


def require_images(source: Source) -> None:
    """Look whether a source has an image at all, before something costly is done for it.

    Raises:
        SourceError: if it has none, or cannot be read.
    """
    begun(source)


def nothing_found(source: Source) -> str:
    """A sentence for a source without images, with what was passed over in it."""
    passed = ", ".join(f"{count:,} × {why}" for why, count in source.passed_over.most_common(5))
    return f"no images in {readable(source.name)}" + (f" (passed over: {passed})" if passed else "")


def begun(source: Source, *, may_be_empty: bool = False) -> Iterator[tuple[str, str]]:
    """The items of a source, of which the first has been found.

    Args:
        source: is listed.
        may_be_empty: it is well without any.

    Raises:
        SourceError: if it has none and should, or cannot be read.
    """
    found = source.items()
    for first in found:
        return chain([first], found)
    if may_be_empty:
        return iter(())
    raise SourceError(nothing_found(source))


def messages(job: Job, seqs: Iterable[int]) -> list[ChunkMessage]:
    """What wakes lanes up for chunks of a job."""
    return [ChunkMessage(job=job.id, seq=seq, priority=job.priority) for seq in seqs]


def position(store: Store, job: Job) -> Position | None:
    """Where the listing of a job stands; ``None`` at its beginning."""
    cursor = store.jobs.cursor(job.id)
    if cursor is None:
        return None
    n, uri = json.loads(cursor)
    return Position(n=n, uri=uri)


def _cursor(position: Position | None) -> str | None:
    return None if position is None else json.dumps([position.n, position.uri])


def plan(source: Source, *, store: Store, model: str, top_k: int, fresh_since: float) -> Plan:
    """Count what a job over a source would label and skip.

    Raises:
        SourceError: if the source cannot be read or has no images.
        StoreError: if the store refuses.
    """
    listed = skipped = failed = fresh_bytes = 0
    examples: list[str] = []
    asked = _Asked(model=model, top_k=top_k, fresh_since=fresh_since)
    for page in _pages(source.items(), asked, store):
        listed += len(page.items)
        skipped += sum(item.uri in page.known for item in page.items)
        failed += sum(known.failed for known in page.known.values())
        for item in page.items:
            if item.uri not in page.known:
                fresh_bytes += int(item.version.partition("-")[0] or 0)
                if len(examples) < 5:
                    examples.append(item.uri)
    if not listed:
        raise SourceError(nothing_found(source))
    return Plan(
        listed=listed,
        skipped=skipped,
        failed=failed,
        fresh=listed - skipped,
        fresh_bytes=fresh_bytes,
        examples=tuple(examples),
        passed_over=source.passed_over,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What decides whether an earlier outcome stands: a job has it, a plan makes it up."""

    model: str
    top_k: int
    fresh_since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _ListedPage:
    items: list[Item]
    known: dict[str, Known]
    end: int
    is_last: bool


def _pages(
    found: Iterator[tuple[str, str]],
    asked: Job | _Asked,
    store: Store,
    *,
    start: int = 0,
    patient: Patience = AT_ONCE,
) -> Iterator[_ListedPage]:
    """Pages of a source with what is known of them.

    A last page that would be short goes with the one before it: what ends a job is cut finely.
    """
    has_outcomes = patient(store.outcomes.any_of, model=asked.model, top_k=asked.top_k)
    ahead = list(islice(found, PAGE_ITEMS))
    n = start
    is_last = False
    while not is_last:
        page, ahead = ahead, list(islice(found, PAGE_ITEMS))
        if len(ahead) < PAGE_ITEMS:
            page += ahead
            is_last = True
        known = (
            patient(
                store.outcomes.known,
                dict(page),
                model=asked.model,
                top_k=asked.top_k,
                since=asked.fresh_since,
            )
            if has_outcomes and page
            else {}
        )
        items = [Item(n=n + i, uri=uri, version=version) for i, (uri, version) in enumerate(page)]
        n += len(page)
        yield _ListedPage(items=items, known=known, end=n, is_last=is_last)
