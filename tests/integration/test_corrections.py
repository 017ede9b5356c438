"""Labels given by hand, in the store and on the command line, on every database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.registries import version_in
from typer.testing import CliRunner

from tagmill.cli import app
from tagmill.errors import SourceError, UnknownModel, UsageError
from tagmill.settings import Settings
from tagmill.sources import file_uri
from tagmill.store import Store
from tagmill.train import MOST_ROOTS, dataset_name, with_training_roots
from tagmill.training import CORRECTIONS, TrainingRequest

LONG = "s3://photos/" + "x" * 5_000
"""Longer than what PostgreSQL's index takes."""


def test_the_newest_label_of_an_image_stands_for_each_model_by_itself(store: Store) -> None:
    said = store.corrections
    assert said.add("pets", " cat ", ["s3://b/1.jpg", "s3://b/2.jpg", LONG, LONG]) == 3
    assert said.add("pets", "dog", ["s3://b/2.jpg"]) == 1
    assert said.add("birds", "wren", ["s3://b/1.jpg"]) == 1
    assert said.labels("pets") == {"s3://b/1.jpg": "cat", "s3://b/2.jpg": "dog", LONG: "cat"}
    assert said.remove("pets", ["s3://b/1.jpg", "s3://b/9.jpg"]) == 1
    assert set(said.labels("pets")) == {"s3://b/2.jpg", LONG}
    assert said.labels("birds") == {"s3://b/1.jpg": "wren"}
    assert said.all("pets")[0].corrected_at == pytest.approx(store.jobs.now(), abs=60)


def test_what_can_be_no_correction_is_refused(store: Store) -> None:
    for name, error in (("a/b", UnknownModel), ("mobilenet_v2", UsageError)):
        with pytest.raises(error):
            store.corrections.add(name, "cat", ["s3://b/1.jpg"])
    for label in ("", " ", "a\nb", "x" * 101):
        with pytest.raises(SourceError, match="label"):
            store.corrections.add("pets", label, ["s3://b/1.jpg"])
    assert not store.corrections.labels("pets")


def test_roots_are_the_folders_of_the_corrected_images(store: Store, settings: Settings) -> None:
    free = settings.model_copy(update={"roots": ()})
    request = TrainingRequest(name="pets", dataset=dataset_name(CORRECTIONS))
    store.corrections.add("pets", "cat", ["file:///a/1.jpg", "file:///a/2.jpg", "s3://b/1.jpg"])
    store.corrections.add("pets", "dog", ["file:///c%20d/1.jpg"])
    assert with_training_roots(free, request, store).roots == (Path("/a"), Path("/c d"))
    named = settings.model_copy(update={"roots": (Path("/photos"),)})
    assert with_training_roots(named, request, store) is named
    store.corrections.add("pets", "cat", [f"file:///{n}/1.jpg" for n in range(MOST_ROOTS)])
    with pytest.raises(UsageError, match="--root"):
        with_training_roots(free, request, store)


def test_what_is_to_be_learned_is_learned_where_it_is_kept(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.jpg").write_bytes(b"x")
    add = ["corrections", "add", "cat", str(tmp_path / "1.jpg"), "--name", "pets"]
    state = str(tmp_path / "own")
    said = CliRunner().invoke(app, [*add, "--state-dir", state]).output
    assert f"train corrections: --name pets --state-dir {state}\n" in said
    monkeypatch.setenv("TAGMILL_STORE_URL", f"sqlite:///{tmp_path / 'cluster.db'}")
    assert "train corrections: --name pets --enqueue\n" in CliRunner().invoke(app, add).output
    here = CliRunner().invoke(app, ["train", "corrections:", "--name", "pets"])
    assert isinstance(here.exception, UsageError)
    assert "--enqueue, or on this machine alone with --state-dir" in str(here.exception)


def test_corrections_on_the_command_line(
    tmp_path: Path, settings: Settings, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_in(settings.models_dir, "pets", 1)
    monkeypatch.setenv("TAGMILL_MODELS", str(settings.models_dir))
    monkeypatch.setenv("TAGMILL_STORE_URL", store_url)
    folder = tmp_path / "mistaken"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg", "notes.txt"):
        (folder / name).write_bytes(b"x")

    def run(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(app, ["corrections", *words, "--name", "pets"])
        if code:
            assert isinstance(found.exception, SourceError)
            return str(found.exception)
        assert found.exit_code == 0, found.output
        return found.output

    assert run("add", "cat", str(folder)).startswith("2 images show cat\nlearn it: ")
    assert "caat is no class of pets@1" in run("add", "caat", str(folder / "2.jpg"))
    assert run("list") == f"cat  {folder}/1.jpg\ncaat  {folder}/2.jpg\n"
    rows = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert [row["label"] for row in rows] == ["cat", "caat"]
    assert rows[0]["uri"] == file_uri(str(folder / "1.jpg"))
    (folder / "2.jpg").unlink()
    assert run("remove", str(folder / "2.jpg")) == "1 corrections of pets removed\n"
    assert run("list") == f"cat  {folder}/1.jpg\n"
    assert "no such file" in run("add", "cat", str(tmp_path / "nowhere"), code=2)
    assert "no image in" in run("add", "cat", str(folder / "*.png"), code=2)
