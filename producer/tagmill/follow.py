"""Following a source: what arrives in a folder or under a prefix is enqueued, for ever.

A folder is watched for changes and looked at as a whole now and then, since some file systems tell
of no changes; a bucket is listed again and again. The job stays in listing; stopped and started
again, the same job goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from tagmill.contract import ChunkMessage, Item, JobState
from tagmill.enqueue import PAGE_ITEMS, chunk_sizes, messages
from tagmill.errors import MissingError, SourceError, UsageError
from tagmill.sources import BucketSource, FolderSource, Source, readable
from tagmill.store import Job, Page, Store
from tagmill.store.schema import uri_hash

CHUNK_ITEMS = 32
"""Items of a chunk at the most: what has just arrived is labelled soon."""

SETTLED_S = 1.0
"""A file that was written to within that time may not be whole yet."""

WHOLE_LOOK_S = 600.0
"""Between two looks at a whole folder, whose changes are told besides."""

NOTICE_S = 1.0
"""For how long a follower may not notice that its job was cancelled."""


def follow(
    source: Source,
    job: Job,
    *,
    store: Store,
    send: Callable[[Sequence[ChunkMessage]], None],
    on_page: Callable[[], None],
    on_trouble: Callable[[Exception], None],
) -> None:
    """Enqueue what is in a source and what arrives in it, until the job is cancelled.

    Args:
        source: a folder or a prefix of a bucket.
        job: that follows it.
        store: where it lives.
        send: wakes lanes up.
        on_page: called after each look that found something.
        on_trouble: called with what kept a look from its end; the next one goes on.

    Raises:
        UsageError: if the source is of another kind.
        SourceError, StoreError, BrokerError: if the first look fails.
    """
    arrivals = _Arrivals(store, job)
    is_first = True
    for changed in _looks(source, job.follow_s or WHOLE_LOOK_S):
        found = source.items() if changed is None else iter(changed)
        try:
            while page := list(islice(found, PAGE_ITEMS)):
                if _append(arrivals.new_among(page), job, store=store, send=send):
                    arrivals.take(page)
                    on_page()
            if store.jobs.get(job.id).state is not JobState.LISTING:
                return
        except (SourceError, MissingError) as error:
            if is_first:
                raise
            on_trouble(error)
        is_first = False


def _append(
    new: Sequence[tuple[str, str]],
    job: Job,
    *,
    store: Store,
    send: Callable[[Sequence[ChunkMessage]], None],
) -> bool:
    if not new:
        return False
    start = store.jobs.get(job.id).listed
    items = [Item(n=start + i, uri=uri, version=version) for i, (uri, version) in enumerate(new)]
    rest = iter(items)
    sizes = chunk_sizes(len(items), lanes=1, most=CHUNK_ITEMS, is_first=False, is_last=False)
    chunks = [list(islice(rest, size)) for size in sizes]
    cursor = str(start + len(items))
    after = str(start) if start else None
    seqs = store.ledger.append(job.id, Page(chunks=chunks, skipped=[], cursor=cursor, after=after))
    if seqs is None and store.jobs.get(job.id).state is JobState.LISTING:
        raise UsageError(f"another producer is following with job {job.id}: leave it to that one")
    if seqs:
        send(messages(job, seqs))
    return seqs is not None


class _Arrivals:
    """Tells what a job has not been given yet.

    What has an outcome is in the store; what is on its way to one is kept here as 64-bit hashes.
    """

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._under_way = {_mark(i.uri, i.version) for i in store.ledger.open_items(job.id)}

    def new_among(self, page: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        known = self._store.outcomes.known(
            dict(page),
            model=self._job.model,
            top_k=self._job.top_k,
            since=self._job.fresh_since,
            tried_by=self._job.id,
        )
        self._under_way -= {_mark(uri, version) for uri, version in page if uri in known}
        return [
            (uri, version)
            for uri, version in page
            if uri not in known and _mark(uri, version) not in self._under_way
        ]

    def take(self, page: Iterable[tuple[str, str]]) -> None:
        self._under_way |= {_mark(uri, version) for uri, version in page}


def _mark(uri: str, version: str) -> int:
    return uri_hash(f"{version} {uri}")


def _looks(source: Source, every_s: float) -> Iterator[list[tuple[str, str]] | None]:
    """When to look, and at what: items that changed, perhaps none, or ``None`` for all."""
    if isinstance(source, BucketSource):
        while True:
            yield None
            again_at = time.monotonic() + every_s
            while (left_s := again_at - time.monotonic()) > 0:
                time.sleep(min(left_s, NOTICE_S))
                yield []
    if not isinstance(source, FolderSource):
        raise UsageError(f"{readable(source.name)}: only folders and buckets can be followed")
    try:
        from watchfiles import watch
    except ImportError as error:
        raise MissingError("following a folder needs pip install 'tagmill[follow]'") from error
    changes = watch(
        source.path, yield_on_timeout=True, rust_timeout=round(NOTICE_S * 500), raise_interrupt=True
    )
    next(changes)  # from here on nothing is missed
    yield None
    looked_at = time.monotonic()
    unsettled: set[str] = set()
    for change in changes:
        unsettled |= {path for _, path in change}
        if time.monotonic() - looked_at > every_s or any(map(os.path.isdir, unsettled)):
            looked_at = time.monotonic()
            unsettled.clear()
            yield None
            continue
        settled = {path for path in unsettled if _is_settled(path)}
        unsettled -= settled
        yield [item for path in sorted(settled) if (item := source.item(path))]


def _is_settled(path: str) -> bool:
    try:
        age_s = time.time() - os.stat(path).st_mtime
    except OSError:
        return True  # it is gone, and no item
    return not 0 <= age_s < SETTLED_S
