"""Listing a bucket: in the order of the keys, several prefixes at once where there are several.

S3 hands out a thousand keys per answer and each answer begins where the last one ended, so that one
listing is never faster than its round trips. Keys with slashes can be listed by prefix, side by
side; their pages are put together in the order that one listing would have had.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tagmill.s3.uri import version_of

AT_ONCE = 4
"""Prefixes that are listed side by side."""

PAGES_AHEAD = 2
"""Pages that are held of each of them."""

_DEEPEST = 16  # levels that are looked into for prefixes, one request each

Ask = Callable[..., dict[str, Any]]
"""``list_objects_v2`` of one bucket."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedObject:
    """One object of a listing; ``version`` is ``size-etag``."""

    key: str
    version: str


Page = list[ListedObject]


def listed(ask: Ask, prefix: str, *, after: str = "", depth: int = 0) -> Iterator[ListedObject]:
    """List the objects whose key begins with a prefix, in the order of their keys' bytes.

    Of text, that is the order in which Python has it too. Threads that it starts end when it is
    closed, at the latest with the request that they are at.

    Args:
        ask: makes one request; any thread may call it.
        prefix: empty for all.
        after: a key; only those behind it are listed.
        depth: levels above that had but this one prefix.

    Raises:
        Exception: whatever ``ask`` raises.
    """
    top: dict[str, Any] = {"IsTruncated": True}
    if depth < _DEEPEST:
        top = ask(Prefix=prefix, Delimiter="/")
    inner = [found["Prefix"] for found in top.get("CommonPrefixes", ())]
    page = _objects(top)
    objects = [found for found in page if found.key > after]
    if top.get("IsTruncated"):
        if page and not inner:  # then they are also the first page of the plain listing
            yield from objects
            after = max(after, page[-1].key)
        yield from plainly(ask, prefix, after=after)
        return
    inner = [found for found in inner if found > after or after.startswith(found)]
    if len(inner) == 1:
        yield from (found for found in objects if found.key < inner[0])
        yield from listed(ask, inner[0], after=after, depth=depth + 1)
        yield from (found for found in objects if found.key > inner[0])
        return
    yield from _side_by_side(ask, inner, objects, after)


def _side_by_side(
    ask: Ask, prefixes: list[str], objects: list[ListedObject], after: str
) -> Iterator[ListedObject]:
    rest = deque(objects)
    waiting = iter(prefixes)
    begun: deque[_Segment] = deque()
    try:
        begun.extend(_Segment(_pages(ask, p, after), p) for p in islice(waiting, AT_ONCE))
        while begun:
            while rest and rest[0].key < begun[0].prefix:
                yield rest.popleft()
            for page in begun[0].pages():
                yield from page
            begun.popleft()
            begun.extend(_Segment(_pages(ask, p, after), p) for p in islice(waiting, 1))
        yield from rest
    finally:
        for segment in begun:
            segment.close()


def plainly(ask: Ask, prefix: str, *, after: str) -> Iterator[ListedObject]:
    """As `listed`, one answer after the other, and by no other prefix than this one."""
    for page in _pages(ask, prefix, after):
        yield from page


class _Segment:
    """The listing of one prefix, read ahead by a thread of its own."""

    def __init__(self, pages: Iterator[Page], prefix: str) -> None:
        self.prefix = prefix
        self._ahead: deque[Page] = deque()
        self._error: Exception | None = None
        self._is_ended = self._is_closed = False
        self._changed = threading.Condition()
        # A daemon: nobody who gave the listing up waits for a server that does not answer.
        threading.Thread(target=self._read, args=(pages,), daemon=True, name="listing").start()

    def pages(self) -> Iterator[Page]:
        """Yield the pages in their order, each as soon as it is there."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ahead or self._is_ended)
                if not self._ahead:
                    break
                page = self._ahead.popleft()
                self._changed.notify_all()
            yield page
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let the thread end after the request that it is at."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _read(self, pages: Iterator[Page]) -> None:
        try:
            for page in pages:
                with self._changed:
                    self._ahead.append(page)
                    self._changed.notify_all()
                    self._changed.wait_for(
                        lambda: self._is_closed or len(self._ahead) < PAGES_AHEAD
                    )
                    if self._is_closed:
                        return
        except Exception as error:  # noqa: BLE001  # raised where the pages are awaited
            self._error = error
        finally:
            with self._changed:
                self._is_ended = True
                self._changed.notify_all()


def _pages(ask: Ask, prefix: str, after: str) -> Iterator[Page]:
    """One listing after the other answer; ``after`` may be anywhere."""
    where = {"StartAfter": after} if after else {}
    while True:
        answer = ask(Prefix=prefix, **where)
        yield _objects(answer)
        token = answer.get("NextContinuationToken")
        if not (answer.get("IsTruncated") and token):
            return
        where = {"ContinuationToken": token}


def _objects(answer: dict[str, Any]) -> Page:
    return [
        ListedObject(
            key=found["Key"], version=version_of(found.get("Size", 0), found.get("ETag", ""))
        )
        for found in answer.get("Contents", ())
    ]
