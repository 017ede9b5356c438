"""The main job on a bucket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support import hostile
from support.command import Tagmill


@pytest.fixture
def on_s3(tagmill: Tagmill, bucket: Any, s3_server: dict[str, str], photos: list[Path]) -> Tagmill:
    """The command with S3 in its environment; the bucket holds twenty photographs."""
    tagmill.environment.update(s3_server)
    for photo in photos[::10]:
        bucket.put_object(Key=f"shots/{photo.name}", Body=photo.read_bytes())
    return tagmill


def test_a_bucket_gets_the_labels_that_the_same_files_get(
    on_s3: Tagmill, bucket: Any, photos: list[Path]
) -> None:
    on_s3("run", f"s3://{bucket.name}/shots/", "--out", "s3.jsonl")
    (on_s3.home / "list.txt").write_text("\n".join(str(photo) for photo in photos[::10]))
    on_s3("run", on_s3.home / "list.txt", "--root", photos[0].parent, "--out", "local.jsonl")
    labels = [
        {Path(row["uri"]).name: row["labels"] for row in on_s3.rows(name)}
        for name in ("s3.jsonl", "local.jsonl")
    ]
    assert len(labels[0]) == 20
    assert labels[0] == labels[1]
    report = (on_s3.home / "report.html").read_text()
    assert "no longer there" not in report


def test_next_run_on_a_bucket_labels_what_is_new_or_changed(on_s3: Tagmill, bucket: Any) -> None:
    uri = f"s3://{bucket.name}/shots/"
    assert "20 to label" in on_s3("run", uri, "--dry-run").stdout
    on_s3("run", uri)
    changed = next(iter(bucket.objects.filter(Prefix="shots/")))
    changed.put(Body=hostile.jpeg())
    bucket.put_object(Key="shots/empty.jpg", Body=b"")
    bucket.put_object(Key="shots/cold.jpg", Body=hostile.jpeg(), StorageClass="GLACIER")
    bucket.put_object(Key="shots/a +ü%20.jpg", Body=hostile.jpeg())
    second = on_s3("run", uri, "--out", "s3.jsonl").stderr
    assert "2 labelled, 2 failed, 19 labelled before" in second
    assert "1 × archived" in second
    errors = {row["uri"].rpartition("/")[2]: row["error"] for row in on_s3.rows("s3.jsonl")}
    assert errors["empty.jpg"] == "not_an_image"
    assert errors["a +ü%20.jpg"] is None
    assert "24 labelled" not in on_s3("run", uri, "--again").stderr


def test_objects_and_files_in_one_manifest(on_s3: Tagmill, bucket: Any, photos: list[Path]) -> None:
    names = [photo.name for photo in photos[::10]]
    lines = [f"s3://{bucket.name}/shots/{name}" for name in names[:15]]
    lines[3:3] = [str(photos[1]), f"s3://{bucket.name}/gone.jpg", str(photos[2])]
    (on_s3.home / "mixed.txt").write_text("\n".join(lines))
    on_s3("run", "mixed.txt", "--root", photos[0].parent, "--out", "mixed.jsonl")
    rows = on_s3.rows("mixed.jsonl")
    assert [row["error"] for row in rows] == [None] * 4 + ["not_found"] + [None] * 13


def test_bucket_that_is_away_or_not_there_is_one_clear_line(on_s3: Tagmill) -> None:
    assert "the bucket is not there" in on_s3("run", "s3://no-such-bucket-x/", code=2).stderr
    said = on_s3("run", "s3://photos/", code=2, TAGMILL_BUCKETS="mine").stderr
    assert "allow it with TAGMILL_BUCKETS" in said


def test_results_go_to_s3_and_to_files_also_by_the_variable(on_s3: Tagmill, bucket: Any) -> None:
    out = f"s3://{bucket.name}/out//labels.jsonl"
    done = on_s3("run", f"s3://{bucket.name}/shots/", TAGMILL_OUT=f"here.jsonl:{out}:a b.csv")
    assert f"wrote {out}" in done.stderr
    there = bucket.Object("out//labels.jsonl").get()["Body"].read()
    assert there == (on_s3.home / "here.jsonl").read_bytes()
    assert (on_s3.home / "a b.csv").exists()
    on_s3("results", "-o", f"s3://{bucket.name}/again.parquet", "-o", "more.csv")
    assert bucket.Object("again.parquet").content_length
    said = on_s3("run", f"s3://{bucket.name}/shots/", "-o", "s3://no-such-b/x.csv", code=2).stderr
    assert "the bucket is not there" in said
    twice = on_s3("run", f"s3://{bucket.name}/shots/", "-o", out, "-o", out, code=2).stderr
    assert "already: name another file" in twice


def test_the_model_is_built_into_s3_once_and_used_from_there(on_s3: Tagmill, bucket: Any) -> None:
    weights = os.environ["TAGMILL_WEIGHTS"]
    place = {"TAGMILL_MODELS": f"s3://{bucket.name}/models", "TAGMILL_WEIGHTS": weights}
    assert "not built yet" in on_s3("models", "list", **place).stdout
    pulled = Path(on_s3("models", "pull", **place).stdout.strip())
    assert (pulled / "model.tflite").is_file()
    assert bucket.Object("models/mobilenet_v2/1/card.json").content_length
    other = {**place, "TAGMILL_STATE_DIR": str(on_s3.home / "other"), "TAGMILL_WEIGHTS": "/none"}
    assert f"s3://{bucket.name}/models" in on_s3("models", "show", "mobilenet_v2", **other).stdout
    run = on_s3("run", f"s3://{bucket.name}/shots/", **other).stderr
    assert "20 labelled" in run
    assert "building" not in run
    kept = next((on_s3.home / "other" / "models-cache").glob("*/mobilenet_v2/1"))
    assert {path.name for path in kept.iterdir()} == {"card.json", "labels.csv", "model.tflite"}
    assert f"in s3://{bucket.name}/models/" in on_s3("doctor", **place).stdout
