"""Enqueueing: list a source, page by page, into the ledger, and wake the lanes up.

Each page is one transaction: its chunks, the items that need no new outcome, and the cursor.
Messages follow the transaction, so that whatever is in the broker is in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tagmill.contract import ChunkMessage, Item
from tagmill.sources import Source
from tagmill.store import Job, Known, Page, Store

PAGE_ITEMS = 4096
"""Items of one transaction: large enough to hide its cost, small enough to hold."""

LEAST_CHUNK_ITEMS = 8
"""Below that many items a chunk's own cost shows beside its images'."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a job would do, counted without doing it.

    Attributes:
        fresh_bytes: size of the files to label, as far as their versions tell.
    """

    listed: int
    skipped: int
    fresh: int
    fresh_bytes: int
    examples: tuple[str, ...]


def chunk_sizes(items: int, *, lanes: int, most: int, is_last: bool) -> list[int]:
    """Cut a page into chunks so that lanes end together.

    Chunks of a page in the middle of a listing are as large as allowed. The last page is cut by
    guided self-scheduling (Polychronopoulos and Kuck, 1987): every chunk takes a fixed share of
    what remains, so that they shrink towards the end and no lane waits long for another.

    Args:
        items: in the page.
        lanes: that are expected to work.
        most: items of a chunk at the most.
        is_last: whether the page ends the listing.

    Returns:
        Sizes that add up to ``items``.
    """
    if is_last:
        most = min(most, max(LEAST_CHUNK_ITEMS, items // (8 * lanes)))
    sizes = []
    left = items
    while left:
        share = left // (4 * lanes) if is_last else most
        size = min(left, most, max(LEAST_CHUNK_ITEMS, share))
        sizes.append(size)
        left -= size
    return sizes


def enqueue(
    source: Source,
    job: Job,
    *,
    store: Store,
    send: Callable[[Sequence[ChunkMessage]], None],
    lanes: int,
    chunk_items: int,
    on_page: Callable[[], None] = lambda: None,
) -> None:
    """List a source into a job's chunks.

    Args:
        source: what to list.
        job: a job that is listing.
        store: where it lives.
        send: wakes lanes up; called after each page that has chunks.
        lanes: that are expected to work.
        chunk_items: items of a chunk at the most.
        on_page: called after each page.

    Raises:
        SourceError: if the source cannot be read.
        StoreError: if the store refuses.
        BrokerError: from ``send``.
    """
    for page, listed, is_last in _pages(source, job, store):
        known = page.known
        fresh = [item for item in page.items if item.uri not in known]
        chunks = []
        rest = iter(fresh)
        for size in chunk_sizes(len(fresh), lanes=lanes, most=chunk_items, is_last=is_last):
            chunks.append(list(islice(rest, size)))
        skipped = [
            (item.n, known[item.uri].job, known[item.uri].n)
            for item in page.items
            if item.uri in known
        ]
        cursor = None if is_last else str(listed)
        seqs = store.ledger.append(job.id, Page(chunks=chunks, skipped=skipped, cursor=cursor))
        if seqs:
            send([ChunkMessage(job=job.id, seq=seq) for seq in seqs])
        on_page()
        if chunks and not seqs:
            return  # the job was cancelled meanwhile


def plan(source: Source, *, store: Store, model: str, top_k: int, fresh_since: float) -> Plan:
    """Count what a job over a source would label and skip.

    Raises:
        SourceError: if the source cannot be read.
        StoreError: if the store refuses.
    """
    listed = skipped = fresh_bytes = 0
    examples: list[str] = []
    asked = _Asked(model=model, top_k=top_k, fresh_since=fresh_since)
    for page, _, _ in _pages(source, asked, store):
        listed += len(page.items)
        skipped += sum(item.uri in page.known for item in page.items)
        for item in page.items:
            if item.uri not in page.known:
                fresh_bytes += int(item.version.partition("-")[0] or 0)
                if len(examples) < 5:
                    examples.append(item.uri)
    return Plan(
        listed=listed,
        skipped=skipped,
        fresh=listed - skipped,
        fresh_bytes=fresh_bytes,
        examples=tuple(examples),
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


def _pages(
    source: Source, asked: Job | _Asked, store: Store
) -> Iterator[tuple[_ListedPage, int, bool]]:
    """Pages of a source with what is known of them, the items listed so far, and the end."""
    has_outcomes = store.outcomes.any_of(model=asked.model, top_k=asked.top_k)
    found = source.items()
    ahead = list(islice(found, PAGE_ITEMS))
    n = 0
    while True:
        page, ahead = ahead, list(islice(found, PAGE_ITEMS))
        known = (
            store.outcomes.known(
                dict(page), model=asked.model, top_k=asked.top_k, since=asked.fresh_since
            )
            if has_outcomes and page
            else {}
        )
        items = [Item(n=n + i, uri=uri, version=version) for i, (uri, version) in enumerate(page)]
        n += len(page)
        yield _ListedPage(items=items, known=known), n, not ahead
        if not ahead:
            return
