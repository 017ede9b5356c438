"""Datasets in S3: a folder per class, a manifest, and what of them is read again."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tagmill.drawing import SHAPES, draw
from tagmill.errors import MissingError, SourceError
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill_worker import patience
from tagmill_worker.training.dataset import Example, Listed, list_dataset
from tagmill_worker.training.versions import with_versions


def upload(bucket: Any, count: int) -> None:
    for shape in SHAPES:
        for number in range(count):
            output = io.BytesIO()
            draw(shape, number).save(output, "PNG")
            bucket.put_object(Key=f"set/{shape} ü/{number}.png", Body=output.getvalue())


def test_a_prefix_with_a_folder_per_class_is_a_dataset(settings: Settings, bucket: Any) -> None:
    upload(bucket, 2)
    bucket.put_object(Key="set/stray.png", Body=b"x")
    listed = list_dataset(f"s3://{bucket.name}/set/", settings=settings, s3=S3(settings))
    assert [e.label for e in listed.examples] == [
        label for shape in SHAPES for label in [f"{shape} ü"] * 2
    ]
    assert all(example.version for example in listed.examples)
    assert [finding.kind for finding in listed.findings] == ["astray"]


def test_a_manifest_in_s3_has_labels(settings: Settings, bucket: Any) -> None:
    upload(bucket, 1)
    rows = "".join(f'{shape} ü/0.png,"{shape}, one"\n' for shape in SHAPES)
    bucket.put_object(Key="set/list.csv", Body=f"uri,label\n{rows}".encode())
    listed = list_dataset(f"s3://{bucket.name}/set/list.csv", settings=settings, s3=S3(settings))
    assert [e.label for e in listed.examples] == [f"{shape}, one" for shape in SHAPES]
    assert listed.examples[0].uri.startswith(f"s3://{bucket.name}/set/disc")


def test_a_bucket_that_is_not_there_is_a_sentence(settings: Settings, bucket: Any) -> None:
    with pytest.raises(SourceError, match="not there"):
        list_dataset(f"s3://{bucket.name}-not/set/", settings=settings, s3=S3(settings))


def test_objects_of_a_manifest_have_versions_so_that_none_is_read_again(
    settings: Settings, bucket: Any
) -> None:
    upload(bucket, 1)
    rows = "".join(f"{shape} ü/0.png,{shape}\n" for shape in SHAPES)
    bucket.put_object(Key="set/list.csv", Body=f"uri,label\n{rows}gone.png,disc\n".encode())
    s3 = S3(settings)
    named = list_dataset(f"s3://{bucket.name}/set/list.csv", settings=settings, s3=s3)
    checks: list[None] = []
    listed = with_versions(named, s3, check=lambda: checks.append(None))
    *there, gone = listed.examples
    assert [s3.read(e.uri, max_bytes=10**6)[1] for e in there] == [e.version for e in there]
    assert gone.version == ""
    assert checks
    assert with_versions(listed, s3, check=lambda: None).examples == listed.examples


def test_an_outage_ends_a_training_and_shrinks_no_dataset(
    settings: Settings, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(patience, "OUTAGE_S", 0.0)
    examples = (Example(uri="s3://b/a.png", version="", label="a"),)
    named = Listed(name="s3://b/list.csv", examples=examples)
    with pytest.raises(MissingError, match=r"s3://b/a\.png cannot be read for now"):
        with_versions(named, S3(settings), check=lambda: None)
