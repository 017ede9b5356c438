"""Datasets in S3: a folder per class, a manifest, and what of them is read again."""

from __future__ import annotations

import io
from typing import Any

import pytest
from support.drawn import SHAPES, draw

from tagmill.errors import SourceError
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill_worker.training.dataset import list_dataset


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
