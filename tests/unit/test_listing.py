"""Prefixes listed side by side: one listing's order, all of it, few pages, no thread left."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.polling import until

from tagmill.s3.listing import AT_ONCE, PAGES_AHEAD, listed, plainly

PAGE = 3
KEYS = st.sets(
    st.lists(st.sampled_from(["a", "a-b", "/", "//", "b", "é", "🦊", "a0", "."]), max_size=6).map(
        "".join
    ),
    max_size=40,
).map(lambda keys: {key for key in keys if key})
PREFIXES = st.sampled_from(["", "a", "a/", "b", "é/", "/"])


class Bucket:
    """Answers as ``list_objects_v2`` does, three keys at a time."""

    def __init__(self, keys: set[str]) -> None:
        self.keys = sorted(keys, key=str.encode)
        self.asked: list[dict[str, Any]] = []

    def __call__(
        self,
        *,
        Prefix: str,  # noqa: N803
        Delimiter: str = "",  # noqa: N803
        StartAfter: str = "",  # noqa: N803
        ContinuationToken: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        self.asked.append({"Prefix": Prefix, "Delimiter": Delimiter})
        after = ContinuationToken or StartAfter
        found: dict[str, bool] = {}
        for key in self.keys:
            if not key.startswith(Prefix) or key.encode() <= after.encode():
                continue
            head, mark, _ = key[len(Prefix) :].partition(Delimiter or "\0")
            found[Prefix + head + mark if Delimiter else key] = bool(Delimiter and mark)
        page = dict(itertools.islice(found.items(), PAGE))
        answer: dict[str, Any] = {"IsTruncated": len(found) > PAGE}
        answer["Contents"] = [
            {"Key": k, "Size": 1, "ETag": '"e"'} for k, inner in page.items() if not inner
        ]
        answer["CommonPrefixes"] = [{"Prefix": k} for k, inner in page.items() if inner]
        if answer["IsTruncated"]:
            answer["NextContinuationToken"] = list(page)[-1]
        return answer


def keys(found: Any) -> list[str]:
    return [one.key for one in found]


def none_left() -> bool:
    return not any(thread.name == "listing" for thread in threading.enumerate())


@given(KEYS, PREFIXES, st.data())
def test_the_listing_is_that_of_one_after_the_other(
    stored: set[str], prefix: str, data: st.DataObject
) -> None:
    bucket = Bucket(stored)
    whole = [key for key in bucket.keys if key.startswith(prefix)]
    assert keys(listed(bucket, prefix)) == whole
    after = data.draw(st.sampled_from([*whole, prefix + "a/", prefix + "b"]))
    rest = [key for key in whole if key.encode() > after.encode()]
    assert keys(listed(bucket, prefix, after=after)) == rest
    assert keys(plainly(bucket, prefix, after=after)) == rest
    until(none_left)


def many(prefixes: int, of_each: int) -> set[str]:
    return {f"in/{'abc'[n]}/{k:03}.jpg" for n in range(prefixes) for k in range(of_each)}


def test_prefixes_before_the_place_are_not_listed() -> None:
    bucket = Bucket(many(3, 10))
    assert len(keys(listed(bucket, "in/", after="in/b/004.jpg"))) == 15
    assert not [one for one in bucket.asked if one["Prefix"] == "in/a/"]


def test_a_flat_bucket_costs_no_request_more() -> None:
    bucket = Bucket({f"{k:02}.jpg" for k in range(10)})
    assert len(keys(listed(bucket, ""))) == 10
    assert len(bucket.asked) == 4


def test_few_pages_are_held_and_threads_end_when_the_listing_is_closed() -> None:
    stored = {f"{n:02}/{k:03}.jpg" for n in range(3) for k in range(300)}
    bucket = Bucket(stored)
    listing = listed(bucket, "")
    next(listing)
    most = 1 + AT_ONCE * (PAGES_AHEAD + 1)
    until(lambda: len(bucket.asked) >= 1 + 3 * PAGES_AHEAD)
    assert len(bucket.asked) <= most
    listing.close()
    until(none_left)
    assert len(bucket.asked) <= most


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_failure_comes_out_in_its_place_and_ends_the_threads(
    kind: type[BaseException],
) -> None:
    bucket = Bucket(many(3, 30))
    ask: Callable[..., dict[str, Any]] = bucket
    if kind is ValueError:

        def ask(**asked: Any) -> dict[str, Any]:
            if asked["Prefix"] == "in/b/" and "ContinuationToken" in asked:
                raise ValueError("no")
            return bucket(**asked)

    seen: list[str] = []

    def consume() -> None:
        for found in listed(ask, "in/"):
            seen.append(found.key)
            if kind is KeyboardInterrupt and len(seen) == 33:
                raise KeyboardInterrupt

    with pytest.raises(kind):
        consume()
    assert seen == keys(listed(bucket, "in/"))[:33]
    until(none_left)
