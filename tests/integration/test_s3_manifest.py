"""Manifests that lie in S3."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from tagmill.errors import SourceError
from tagmill.s3 import S3
from tagmill.settings import load_settings
from tagmill.sources import Position, Source, default_roots, open_source


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def opened(uri: str, **settings: object) -> Source:
    return open_source(uri, leave_out=Path("/nowhere"), s3=S3(load_settings(**settings)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# comment\na.jpg\n../b//c d.jpg\ns3://other/x.jpg\nfile:///y.jpg\n./é.jpg\n"),
        ("LIST.CSV", "uri\na.jpg\n../b//c d.jpg\ns3://other/x.jpg\nfile:///y.jpg\n./é.jpg\n"),
        (
            "list.jsonl",
            '"a.jpg"\n"../b//c d.jpg"\n"s3://other/x.jpg"\n"file:///y.jpg"\n{"uri": "./é.jpg"}\n',
        ),
    ],
)
def test_entries_are_keys_beside_the_manifest_or_whole_uris(
    bucket: Any, name: str, text: str, scratch: Path
) -> None:
    bucket.put_object(Key=f"in/lists/{name}", Body=text.encode())
    source = opened(f"s3://{bucket.name}/in/lists/{name}")
    whole = list(source.items())
    assert [uri for uri, _ in whole] == [
        f"s3://{bucket.name}/in/lists/a.jpg",
        f"s3://{bucket.name}/in/b//c d.jpg",
        "s3://other/x.jpg",
        "file:///y.jpg",
        f"s3://{bucket.name}/in/lists/é.jpg",
    ]
    assert source.name == f"s3://{bucket.name}/in/lists/{name}"
    assert default_roots(source.name) == ()
    for k in range(1, 6):
        assert list(source.items(after=Position(n=k, uri=whole[k - 1][0]))) == whole[k:]
    begun = source.items()
    next(begun)
    assert list(scratch.iterdir())
    begun.close()  # type: ignore[attr-defined]
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.jpg\nhttp://host/b.jpg\n", "in/list.txt: line 2: 'http://host/b.jpg' is neither"),
        ("../../a.jpg\n", "line 1: .* leads out of the bucket"),
        ("k" * 1025 + "\n", "line 1: .* 1,024 bytes"),
    ],
)
def test_broken_manifest_names_its_lines(bucket: Any, text: str, said: str) -> None:
    bucket.put_object(Key="in/list.txt", Body=text.encode())
    with pytest.raises(SourceError, match=said):
        list(opened(f"s3://{bucket.name}/in/list.txt").items())


def test_manifest_that_is_not_there_or_not_allowed_is_said(bucket: Any) -> None:
    uri = f"s3://{bucket.name}/gone.csv"
    with pytest.raises(SourceError, match=r"gone\.csv: the object is not there"):
        list(opened(uri).items())
    with pytest.raises(SourceError, match=r"gone\.csv: .* not among the allowed ones"):
        list(opened(uri, buckets="other").items())


def test_a_bucket_named_as_a_manifest_is_a_bucket(bucket: Any) -> None:
    with pytest.raises(SourceError, match="the bucket is not there"):
        list(opened("s3://photos.csv").items())
    bucket.put_object(Key="odd.txt/a.jpg", Body=b"x")
    assert len(list(opened(f"s3://{bucket.name}/odd.txt/").items())) == 1
