"""The main job as a user runs it, on real photographs."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import hostile
from support.command import Tagmill

from tagmill.sources import path_of

ROW = [
    "job", "uri", "version", "status", "error", "message",
    "width", "height", "model", "labels", "labelled_at",
]  # fmt: skip


@pytest.fixture
def folder(tagmill: Tagmill, photos: list[Path]) -> Path:
    """Twenty photographs in two folders."""
    for n, photo in enumerate(photos[::10]):
        target = tagmill.home / "photos" / "ab"[n % 2] / photo.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, target)
    return tagmill.home / "photos"


def test_real_photographs_get_their_true_labels(
    tagmill: Tagmill, photos: list[Path], classes: dict[str, str]
) -> None:
    tagmill("run", photos[0].parent, "--out", "labels.jsonl")
    rows = tagmill.rows("labels.jsonl")
    assert [path_of(row["uri"]) for row in rows] == [str(photo) for photo in photos]
    right = sum(row["labels"][0]["id"] == classes[Path(row["uri"]).name] for row in rows)
    assert right / len(rows) >= 0.88
    assert all(len(row["labels"]) == 5 for row in rows)
    scores = [label["score"] for label in rows[0]["labels"]]
    assert scores == sorted(scores, reverse=True)


def test_all_formats_carry_the_same_rows(tagmill: Tagmill, folder: Path) -> None:
    (folder / "bad.jpg").write_text("no image")
    (folder / 'with, comma "quote"\nnewline.jpg').write_bytes(hostile.jpeg())
    tagmill("run", folder, "-o", "l.jsonl", "-o", "l.csv", "-o", "l.parquet", "--no-report")
    rows = tagmill.rows("l.jsonl")
    assert len(rows) == 22
    assert all(list(row) == ROW for row in rows)
    with (tagmill.home / "l.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    assert [list(row) for row in from_csv] == [ROW] * 22
    for row, text in zip(rows, from_csv, strict=True):
        assert json.loads(text["labels"]) == row["labels"]
        for name in set(ROW) - {"labels"}:
            assert text[name] == ("" if row[name] is None else str(row[name]))
    from_parquet = pq.read_table(tagmill.home / "l.parquet").to_pylist()
    for row, other in zip(rows, from_parquet, strict=True):
        when = other.pop("labelled_at").strftime("%Y-%m-%dT%H:%M:%SZ")
        assert {**other, "labelled_at": when} == row
    assert not (tagmill.home / "report.html").exists()


def test_results_come_to_stdout_and_can_be_filtered(tagmill: Tagmill, folder: Path) -> None:
    (folder / "bad.jpg").write_text("no image")
    tagmill("run", folder)
    lines = tagmill("results").stdout.splitlines()
    assert len(lines) == 21
    failed = [
        json.loads(line) for line in tagmill("results", "--status", "failed").stdout.splitlines()
    ]
    assert [row["error"] for row in failed] == ["not_an_image"]
    assert tagmill("results", "--format", "csv").stdout.startswith("job,uri,version")
    state = json.loads(tagmill("status", failed[0]["job"], "--json").stdout)
    assert (state["state"], state["ok"], state["failed"]) == ("done", 20, 1)
    assert state["failures"] == {"not_an_image": 1}
    assert failed[0]["job"] in tagmill("status").stdout


def test_second_run_labels_nothing_and_starts_nothing(tagmill: Tagmill, folder: Path) -> None:
    tagmill("run", folder)
    shutil.rmtree(tagmill.state / "logs")
    second = tagmill("run", folder, "--out", "labels.jsonl")
    assert "0 labelled, 0 failed, 20 labelled before" in second.stderr
    assert not (tagmill.state / "logs" / "worker.log").exists()
    assert len(tagmill.rows("labels.jsonl")) == 20
    assert (tagmill.home / "report.html").stat().st_size > 20_000


def test_next_run_labels_new_and_changed_files_only(tagmill: Tagmill, folder: Path) -> None:
    tagmill("run", folder, "--out", "first.jsonl")
    (folder / "new.jpg").write_bytes(hostile.jpeg())
    changed = next(folder.glob("a/*"))
    changed.write_bytes(hostile.jpeg(hostile.picture(90, 90)))
    gone = next(folder.glob("b/*"))
    gone.unlink()
    second = tagmill("run", folder, "--out", "second.jsonl")
    assert "2 labelled, 0 failed, 18 labelled before" in second.stderr
    rows = {path_of(row["uri"]): row for row in tagmill.rows("second.jsonl")}
    assert len(rows) == 20
    assert str(gone) not in rows
    assert rows[str(changed)]["width"] == 90
    everything = tagmill("run", folder, "--again")
    assert "20 labelled, 0 failed in" in everything.stderr


def test_other_top_k_is_other_work(tagmill: Tagmill, folder: Path) -> None:
    tagmill("run", folder)
    tagmill("run", folder, "--top-k", 2, "--out", "two.jsonl")
    assert {len(row["labels"]) for row in tagmill.rows("two.jsonl")} == {2}


def test_hostile_folder_gets_one_outcome_each(tagmill: Tagmill) -> None:
    folder = tagmill.home / "photos"
    folder.mkdir()
    expected = hostile.fill(folder, tagmill.home / "outside")
    done = tagmill("run", folder, "--out", "labels.jsonl", "--strict", code=1)
    rows = tagmill.rows("labels.jsonl")
    found = {path_of(row["uri"]).removeprefix(f"{folder}/"): row for row in rows}
    assert len(rows) == len(found), "an item has two outcomes"
    assert {name: row["error"] or "ok" for name, row in found.items()} == expected
    for row in rows:
        assert (row["message"] is None) == (row["status"] == "ok")
        assert (row["status"] == "ok") == bool(row["labels"])
    assert "passed over: 1 × link to a folder" in done.stderr
    assert found["exif-6.jpg"]["width"] == 200


def test_dry_run_says_what_would_be_done_and_does_nothing(tagmill: Tagmill, folder: Path) -> None:
    said = tagmill("run", folder, "--dry-run").stdout
    assert "20 images in" in said
    assert "20 to label with mobilenet_v2@1" in said
    assert not tagmill.state.exists()
    tagmill("run", folder)
    assert "20 labelled by it before, 0 failed before" in tagmill("run", folder, "--dry-run").stdout
    assert "20 to label" in tagmill("run", folder, "--dry-run", "--again").stdout


def test_retry_does_the_failed_items_again(tagmill: Tagmill, folder: Path) -> None:
    (folder / "late.jpg").symlink_to(folder / "not-yet.jpg")
    assert "20 labelled, 1 failed" in tagmill("run", folder).stderr
    (folder / "not-yet.jpg").write_bytes(hostile.jpeg())
    job = json.loads(tagmill("status", "--json").stdout.splitlines()[0])["id"]
    tagmill("retry", job, "--out", "labels.jsonl", "--strict")
    assert [row["status"] for row in tagmill.rows("labels.jsonl")] == ["ok"] * 21
    assert "has no failed items" in tagmill("retry", job, code=2).stderr


def test_manifest_glob_and_file_are_sources(tagmill: Tagmill, folder: Path) -> None:
    names = sorted(str(path.relative_to(folder)) for path in folder.glob("a/*"))
    (folder / "list.txt").write_text("\n".join([*names, "a/not-there.jpg", "/etc/passwd"]))
    tagmill("run", folder / "list.txt", "--out", "m.jsonl")
    ends = [row["error"] or "ok" for row in tagmill.rows("m.jsonl")]
    assert ends == ["ok"] * len(names) + ["not_found", "outside_roots"]
    tagmill("run", folder / "b" / "*.jpg", "--out", "g.jsonl")
    assert len(tagmill.rows("g.jsonl")) == 10
    tagmill("run", folder / names[0], "--out", "f.jsonl")
    assert len(tagmill.rows("f.jsonl")) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "/no/such/folder"], 2, "no such file or folder"),
        (["run", "empty"], 2, "no images in"),
        (["run", "broken.jsonl"], 2, "line 2: not JSON"),
        (["run", "photos", "--model", "nosuch"], 2, "no model 'nosuch'"),
        (["run", "photos", "--model", "mobilenet_v2@9"], 2, "no version 9"),
        (["run", "photos", "--out", "labels.xlsx"], 2, ".jsonl, .csv, .parquet"),
        (["run", "photos", "--out", "no/labels.csv"], 2, "there is no folder no"),
        (["run", "photos", "--report", "broken.jsonl"], 2, "is no report of tagmill"),
        (["run", "photos", "--lanes", "0"], 2, "--lanes"),
        (["run"], 2, "Missing argument"),
        (["results"], 2, "no jobs yet"),
        (["cancel", "x"], 2, "no jobs yet"),
        (["models", "show", "nosuch"], 2, "no model"),
        (["run", "photos", "--state-dir", "broken.jsonl/state"], 3, "Not a directory"),
    ],
)
def test_what_cannot_be_is_one_clear_line(
    tagmill: Tagmill, folder: Path, arguments: list[str], code: int, said: str
) -> None:
    (tagmill.home / "empty").mkdir()
    (tagmill.home / "broken.jsonl").write_text('"a.jpg"\n{"uri":\n')
    assert said in tagmill(*arguments, code=code).stderr


def test_two_runs_on_one_state_folder_are_one_too_many(tagmill: Tagmill, folder: Path) -> None:
    from tagmill.state_folder import StateFolder

    with StateFolder(tagmill.state).locked():
        said = tagmill("run", folder, code=3).stderr
    assert f"another run (process {os.getpid()}) is using the state folder" in said


def test_without_weights_one_error_names_the_ways_out(tagmill: Tagmill, folder: Path) -> None:
    empty = tagmill.home / "registry"
    said = tagmill(
        "run", folder, code=3, TAGMILL_MODELS=str(empty), TAGMILL_WEIGHTS="/no/weights.h5"
    ).stderr
    for way in ("no weights file /no/weights.h5", "TAGMILL_WEIGHTS=", "download", "TAGMILL_MODELS"):
        assert way in said
    (tagmill.home / "w.h5").write_text("no HDF5")
    said = tagmill(
        "run", folder, code=3, TAGMILL_MODELS=str(empty), TAGMILL_WEIGHTS=str(tagmill.home / "w.h5")
    ).stderr
    assert "TAGMILL_WEIGHTS=" in said
    assert not list(empty.glob("*/*")), "half a model stayed"


def test_harmed_model_is_refused_by_name(tagmill: Tagmill, folder: Path, models: Path) -> None:
    harmed = tagmill.home / "registry"
    shutil.copytree(models, harmed)
    with (harmed / "mobilenet_v2" / "1" / "model.tflite").open("r+b") as file:
        file.seek(1000)
        file.write(b"harm")
    said = tagmill("run", folder, code=3, TAGMILL_MODELS=str(harmed)).stderr
    assert "its card says" in said
    assert "model.tflite" in said


def test_models_and_doctor_tell_what_is_there(tagmill: Tagmill) -> None:
    assert "mobilenet_v2@1" in tagmill("models", "list").stdout
    card = json.loads(tagmill("models", "show", "mobilenet_v2", "--json").stdout)
    assert (card["input_size"], card["geometry"]) == (224, "center_crop")
    assert tagmill("models", "pull").stdout.strip().endswith("mobilenet_v2/1")
    assert "mobilenet_v2@1: whole" in tagmill("doctor").stdout
    ill = tagmill("doctor", code=3, TAGMILL_MODELS="/none", TAGMILL_WEIGHTS="/no.h5").stdout
    assert "TAGMILL_WEIGHTS names no file" in ill


def test_help_fits_one_screen(tagmill: Tagmill) -> None:
    assert len(tagmill("--help").stdout.splitlines()) <= 30
    assert tagmill("--version").stdout.strip() == "0.1.0"
