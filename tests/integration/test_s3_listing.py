"""Listing buckets: going on from a place, on a moto server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from tagmill.errors import SourceError
from tagmill.s3 import S3, s3_uri
from tagmill.settings import load_settings
from tagmill.sources import EVERYTHING, Position, Selection, Source, open_source

KEYS = [
    "in/a.jpg", "in/a/1.jpg", "in/a/é.jpg", "in/a-b.jpg", "in/b//2.jpg", "in/b/🦊/3.jpg",
    "in/c d/4.jpg", "in/z.jpg",
]  # fmt: skip


def opened(uri: str, selection: Selection = EVERYTHING) -> Source:
    return open_source(uri, leave_out=Path("/nowhere"), s3=S3(load_settings()), selection=selection)


def test_bucket_goes_on_from_every_place_also_where_the_last_object_is_gone(bucket: Any) -> None:
    for key in KEYS:
        bucket.put_object(Key=key, Body=b"x")
    source = opened(f"s3://{bucket.name}/in/")
    whole = list(source.items())
    assert [uri for uri, _ in whole] == [s3_uri(bucket.name, k) for k in sorted(KEYS)]
    for k in range(1, len(whole) + 1):
        after = Position(n=k, uri=whole[k - 1][0])
        assert list(source.items(after=after)) == whole[k:]
        bucket.Object(sorted(KEYS)[k - 1]).delete()
        assert list(source.items(after=after)) == whole[k:]


def test_a_place_in_another_bucket_or_prefix_is_none(bucket: Any) -> None:
    source = opened(f"s3://{bucket.name}/in/")
    for uri in (f"s3://{bucket.name}/out/a.jpg", "s3://other/in/a.jpg"):
        with pytest.raises(SourceError, match="is no place in"):
            list(source.items(after=Position(n=1, uri=uri)))


@pytest.mark.parametrize("prefix", ["in", "in/"])
def test_objects_are_selected_by_their_key_below_the_prefix(bucket: Any, prefix: str) -> None:
    for key in ("in/a.jpg", "in/b.dat", "in/raw/c.dat", "in/folder/"):
        bucket.put_object(Key=key, Body=b"x")
    source = opened(
        f"s3://{bucket.name}/{prefix}", Selection(include=("*.dat",), exclude=("raw/*",))
    )
    assert [uri for uri, _ in source.items()] == [f"s3://{bucket.name}/in/b.dat"]
    assert source.passed_over == {"excluded": 1, "not included": 1, "folder marker": 1}


def test_a_prefix_that_ends_within_a_name_takes_nothing_from_it(bucket: Any) -> None:
    bucket.put_object(Key="in/photo.dat", Body=b"x")
    for prefix in ("in/ph", "in/photo.dat"):
        source = opened(f"s3://{bucket.name}/{prefix}", Selection(include=("photo.*",)))
        assert len(list(source.items())) == 1


def test_a_policy_that_allows_one_prefix_only_is_enough(bucket: Any) -> None:
    s3 = S3(load_settings())
    page = {"Contents": [{"Key": "in/a.jpg", "Size": 1, "ETag": '"e"'}], "IsTruncated": False}
    with Stubber(s3._client) as stub:
        stub.add_client_error("list_objects_v2", "AccessDenied", "no", 403)
        stub.add_response("list_objects_v2", page, {"Bucket": "bkt", "Prefix": "in/"})
        assert [found.key for found in s3.objects("bkt", "in/")] == ["in/a.jpg"]
        for _ in range(2):
            stub.add_client_error("list_objects_v2", "AccessDenied", "no", 403)
        with pytest.raises(SourceError, match="access denied"):
            list(s3.objects("bkt", "in/"))
