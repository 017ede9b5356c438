"""Results that go to S3: there once they are whole, and what cannot be is said before the work."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.stub import Stubber

from tagmill.contract import Label, Status
from tagmill.errors import MissingError, UsageError
from tagmill.export import check_results_file, export
from tagmill.s3 import S3
from tagmill.settings import load_settings
from tagmill.store import Result


def results(count: int) -> Iterator[Result]:
    for n in range(count):
        yield Result(
            job="j1", n=n, uri=f"s3://b/{n}.jpg", version="1-e", status=Status.OK, error=None,
            message=None, width=1, height=1, model="m@1",
            labels=(Label(id="n1", name="cat", score=0.5),), labelled_at=0.0,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_results_in_s3_are_those_of_a_file(bucket: Any, tmp_path: Path, kind: str) -> None:
    s3 = S3(load_settings())
    uri = f"s3://{bucket.name}/out/labels ü.{kind}"
    check_results_file(uri, s3=s3)
    assert not list(bucket.objects.all())
    for where in (uri, str(tmp_path / f"labels.{kind}")):
        export(results(100), where, job="j1", s3=s3)
    found = bucket.Object(f"out/labels ü.{kind}").get()["Body"].read()
    assert found == (tmp_path / f"labels.{kind}").read_bytes()


def test_large_results_come_in_parts(bucket: Any) -> None:
    uri = f"s3://{bucket.name}/labels.jsonl"
    export(results(60_000), uri, job="j1", s3=S3(load_settings()))
    answer = bucket.Object("labels.jsonl").get()
    assert "-" in answer["ETag"]
    lines = answer["Body"].read().splitlines()
    assert [json.loads(line)["uri"] for line in lines[::20_000]] == [
        f"s3://b/{n}.jpg" for n in (0, 20_000, 40_000)
    ]


def test_half_results_are_none(bucket: Any) -> None:
    def failing() -> Iterator[Result]:
        yield from results(10)
        raise ValueError("the store is away")

    with pytest.raises(ValueError, match="away"):
        export(failing(), f"s3://{bucket.name}/a.csv", job="j1", s3=S3(load_settings()))
    assert not list(bucket.objects.all())


@pytest.mark.parametrize(
    ("uri", "settings", "said"),
    [
        ("s3://{}/labels.txt", {}, "labels.txt: results are written as .jsonl"),
        ("s3://{}", {}, "results are written as .jsonl"),
        ("s3:/{}/x.csv", {}, "names no bucket"),
        ("s3://no-such-bucket-here/x.csv", {}, "x.csv cannot be written: the bucket is not there"),
        ("s3://{}/x.csv", {"buckets": "other"}, "not among the allowed ones"),
    ],
)
def test_what_cannot_be_is_said_before_the_work(
    bucket: Any, uri: str, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check_results_file(uri.format(bucket.name), s3=S3(load_settings(**settings)))


def test_a_bucket_that_may_not_be_asked_for_is_tried_at_the_end(bucket: Any) -> None:
    s3 = S3(load_settings())
    with Stubber(s3._client) as stub:
        stub.add_client_error("head_bucket", "403", "Forbidden", 403)
        check_results_file("s3://bkt/x.csv", s3=s3)
        stub.add_client_error("head_bucket", "503", "slow down", 503)
        with pytest.raises(MissingError, match="asking for the bucket failed"):
            check_results_file("s3://bkt/x.csv", s3=s3)


def test_an_upload_that_fails_says_how_to_have_the_results(bucket: Any) -> None:
    s3 = S3(load_settings())
    with Stubber(s3._client) as stub:
        stub.add_client_error("put_object", "AccessDenied", "not yours", 403)
        with pytest.raises(
            MissingError, match=r"s3://bkt/x\.csv .*denied.*tagmill results j1 --out"
        ):
            export(results(3), "s3://bkt/x.csv", job="j1", s3=s3)
        stub.add_client_error("put_object", "SlowDown", "later", 503)
        with pytest.raises(MissingError, match="writing failed"):
            export(results(3), "s3://bkt/x.csv", job="j1", s3=s3)


def test_bytes_are_sent_from_where_the_file_is(bucket: Any) -> None:
    S3(load_settings()).send(io.BytesIO(b"abc"), f"s3://{bucket.name}/k.csv")
    assert bucket.Object("k.csv").get()["Body"].read() == b"abc"
