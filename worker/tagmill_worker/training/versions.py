"""Versions of objects that a manifest names, which is all that it takes not to read them again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from tagmill.contract import Item
from tagmill.errors import PermanentItemError, TransientItemError
from tagmill.s3 import S3
from tagmill_worker.fetch import Fetched
from tagmill_worker.training.dataset import Listed
from tagmill_worker.training.outage import away, patient

AT_ONCE = 32
"""Requests, each of which is mostly waiting."""

_BLOCK = 1_000


def with_versions(listed: Listed, s3: S3, *, check: Callable[[], None]) -> Listed:
    """A dataset with the versions of its objects, which a listing tells and a manifest does not.

    Args:
        listed: the dataset.
        s3: is asked.
        check: called now and then; what it raises ends the work.

    Raises:
        MissingError: if S3 does not answer.
    """
    unknown = [e.uri for e in listed.examples if not e.version and e.uri.startswith("s3:")]
    if not unknown:
        return listed
    ask = patient(lambda item: Fetched(data=b"", version=s3.version(item.uri)))
    known: dict[str, str] = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="versions") as threads:
        for start in range(0, len(unknown), _BLOCK):
            check()
            some = unknown[start : start + _BLOCK]
            known.update(zip(some, threads.map(partial(_version, ask), some), strict=True))
    return replace(
        listed,
        examples=tuple(
            replace(e, version=e.version or known.get(e.uri, "")) for e in listed.examples
        ),
    )


def _version(ask: Callable[[Item], Fetched], uri: str) -> str:
    try:
        return ask(Item(n=0, uri=uri, version="")).version
    except PermanentItemError:  # told when it is read
        return ""
    except TransientItemError as error:
        raise away(uri, error) from None
