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

from tagmill.chunk_sizes import chunk_sizes
from tagmill.contract import ChunkMessage, Item, JobState
from tagmill.enqueue import PAGE_ITEMS, append
from tagmill.errors import MissingError, SourceError, StoreAway, UsageError
from tagmill.patience import Patience
from tagmill.sources import BucketSource, FolderSource, Source, path_of, readable
from tagmill.store import Job, Page, Store
from tagmill.store.schema import uri_hash

CHUNK_ITEMS = 32
"""Items of a chunk at the most: what has just arrived is labelled soon."""

SETTLED_S = 1.0
"""A file that was written to within that time may not be whole yet."""

FOLDER_EVERY_S, BUCKET_EVERY_S = 600.0, 30.0
"""Between two looks at a whole source: a folder's changes are told besides."""

NOTICE_S = 1.0
"""For how long a follower may not notice that its job was cancelled."""


def default_every_s(source: Source) -> float:
    """Seconds between two looks at a whole source.

    Raises:
        UsageError: if the source is of a kind that cannot be followed.
    """
    if isinstance(source, BucketSource):
        return BUCKET_EVERY_S
    if isinstance(source, FolderSource):
        return FOLDER_EVERY_S
    raise UsageError(f"{readable(source.name)}: only folders and buckets can be followed")


def follow(
    source: Source,
    job: Job,
    *,
    store: Store,
    send: Callable[[Sequence[ChunkMessage]], None],
    on_page: Callable[[], None],
    on_trouble: Callable[[Exception], None],
    patient: Patience,
) -> None:
    """Enqueue what is in a source and what arrives in it, until the job is cancelled.

    Args:
        source: a folder or a prefix of a bucket.
        job: that follows it.
        store: where it lives.
        send: wakes lanes up.
        on_page: called after each page that was written.
        on_trouble: called with what kept a look from its end; the next one goes on.
        patient: waits for a store or a broker that is away.

    Raises:
        UsageError: if the source is of another kind, or another producer follows with the job.
        SourceError, StoreError, BrokerError: if the first look fails.
    """
    arrivals = _Arrivals(store, job, patient)

    def before_whole() -> None:
        try:
            arrivals.forget_done()
        except MissingError as error:  # what is kept too long is only looked up in vain
            on_trouble(error)

    is_first = True
    every_s = job.follow_s or default_every_s(source)
    for found in _looks(source, every_s, before_whole, on_trouble):
        try:
            while page := list(islice(found, PAGE_ITEMS)):
                messages = arrivals.append(page)
                if messages:
                    patient(send, messages)
                    on_page()
            if patient(store.jobs.get, job.id).state is not JobState.LISTING:
                return
        except (SourceError, MissingError) as error:
            if is_first:
                raise
            on_trouble(error)
        is_first = False


class _Arrivals:
    """Gives a job what it has not been given yet.

    What has an outcome is in the store; what is on its way to one is kept here as 64-bit hashes.
    Only one follower at a time gets past the job's cursor.
    """

    def __init__(self, store: Store, job: Job, patient: Patience) -> None:
        self._store = store
        self._job = job
        self._patient = patient
        # Before the items: another's come with another.
        self._cursor = patient(store.jobs.cursor, job.id)
        self._unanswered: str | None = None
        self._under_way: set[int] = set()
        self.forget_done()

    def forget_done(self) -> None:
        """Keep of what is under way what still is."""
        self._under_way = self._patient(self._open_marks)

    def append(self, page: Sequence[tuple[str, str]]) -> list[ChunkMessage]:
        """Write what is new in a page; what wakes lanes up for it."""
        if self._unanswered is not None:
            self._settle(self._unanswered)
        new = self._new_among(page)
        if not new:
            return []
        start = int(self._cursor or 0)
        items = [
            Item(n=start + i, uri=uri, version=version) for i, (uri, version) in enumerate(new)
        ]
        rest = iter(items)
        sizes = chunk_sizes(len(items), lanes=1, most=CHUNK_ITEMS, is_first=False, is_last=False)
        chunks = [list(islice(rest, size)) for size in sizes]
        cursor = str(start + len(items))
        written = Page(chunks=chunks, skipped=[], cursor=cursor, after=self._cursor)
        try:
            sent = append(self._store, self._job, written, self._patient)
        except StoreAway:
            self._unanswered = cursor
            raise
        if sent is None:
            return []
        self._cursor = cursor
        self._under_way |= {_mark(uri, version) for uri, version in new}
        return sent

    def _settle(self, cursor: str) -> None:
        """See whether a page was written before the store went away for long."""
        if self._patient(self._store.jobs.cursor, self._job.id) == cursor:
            self.forget_done()
            self._cursor = cursor
        self._unanswered = None

    def _open_marks(self) -> set[int]:
        open_items = self._store.ledger.open_items(self._job.id)
        return {_mark(item.uri, item.version) for item in open_items}

    def _new_among(self, page: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        known = self._patient(
            self._store.outcomes.known,
            dict(page),
            model=self._job.model,
            top_k=self._job.top_k,
            since=self._job.fresh_since,
            tried_by=self._job.id,
        )
        return [
            (uri, version)
            for uri, version in page
            if uri not in known and _mark(uri, version) not in self._under_way
        ]


def _mark(uri: str, version: str) -> int:
    return uri_hash(f"{version} {uri}")


def _looks(
    source: Source,
    every_s: float,
    before_whole: Callable[[], None],
    on_trouble: Callable[[Exception], None],
) -> Iterator[Iterator[tuple[str, str]]]:
    """What to look at, whenever there may be something, at least every `NOTICE_S`: its items.

    Args:
        source: that is followed.
        every_s: seconds between two looks at all of it.
        before_whole: called before each of those.
        on_trouble: called with what kept changes from being told.
    """
    if isinstance(source, BucketSource):
        while True:
            before_whole()
            yield source.items()
            again_at = time.monotonic() + every_s
            while (left_s := again_at - time.monotonic()) > 0:
                time.sleep(min(left_s, NOTICE_S))
                yield iter(())
    if isinstance(source, FolderSource):
        yield from _looks_at_folder(source, every_s, before_whole, on_trouble)


def _looks_at_folder(
    source: FolderSource,
    every_s: float,
    before_whole: Callable[[], None],
    on_trouble: Callable[[Exception], None],
) -> Iterator[Iterator[tuple[str, str]]]:
    try:
        from watchfiles import watch
    except ImportError as error:
        raise MissingError("following a folder needs pip install 'tagmill[follow]'") from error
    wake_ms = round(NOTICE_S * 500)

    def watched() -> Iterator[Iterable[tuple[object, str]] | None]:
        """Changes, and ``None`` where some may have been missed."""
        while True:
            changes = watch(
                source.path, yield_on_timeout=True, rust_timeout=wake_ms, raise_interrupt=True
            )
            try:
                next(changes)  # from here on nothing is missed
                yield None
                yield from changes
            except (RuntimeError, OSError) as error:  # a name that is no UTF-8, the folder gone
                on_trouble(MissingError(f"{source.path} is watched anew: {error}"))
                time.sleep(NOTICE_S)

    again_at = 0.0
    unsettled: set[str] = set()
    for change in watched():
        if change is None:
            again_at = 0.0
        for _, path in change or ():
            unsettled |= _files_below(path) if os.path.isdir(path) else {path}
        if time.monotonic() >= again_at:
            again_at = time.monotonic() + every_s
            before_whole()
            yield _settled_only(source.items(), unsettled)
        settled = {path for path in unsettled if _is_settled(path)}
        unsettled -= settled
        yield iter([item for path in sorted(settled) if (item := source.item(path))])


def _settled_only(
    items: Iterator[tuple[str, str]], unsettled: set[str]
) -> Iterator[tuple[str, str]]:
    """Items that are whole, as far as one can tell; the paths of the others go to ``unsettled``."""
    for uri, version in items:
        changed_ns = version.partition("-")[2]
        if changed_ns and 0 <= time.time() - int(changed_ns) / 1e9 < SETTLED_S:
            unsettled.add(path_of(uri))
        else:
            yield uri, version


def _files_below(folder: str) -> set[str]:
    """The files of a folder that came as a whole, for its own files are told of one by one."""
    return {os.path.join(below, name) for below, _, names in os.walk(folder) for name in names}


def _is_settled(path: str) -> bool:
    try:
        age_s = time.time() - os.stat(path).st_mtime
    except OSError:
        return True  # it is gone, and no item
    return not 0 <= age_s < SETTLED_S
