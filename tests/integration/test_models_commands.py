"""`tagmill models` and `tagmill schedule` as a user types them, on a registry of two versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.registries import version_in
from typer.testing import CliRunner, Result

from tagmill.cli import app
from tagmill.errors import (
    ModelUnavailable,
    StoreError,
    TagmillError,
    UnknownModel,
    UnknownSchedule,
    UsageError,
)
from tagmill.models import resolve
from tagmill.registry import Registry
from tagmill.settings import Settings
from tagmill.store import Store

Command = Callable[..., Result]


@pytest.fixture
def command(settings: Settings, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command line in this process, with a registry and a store."""
    version_in(settings.models_dir, "pets", 1, metrics={"accuracy": 0.9}, probe={"passed": True})
    classes = [{"label": "cat", "recall": 0.9}, {"label": "dog", "recall": 0.8}]
    version_in(settings.models_dir, "pets", 2, metrics={"accuracy": 0.95, "classes": classes})
    version_in(settings.models_dir, "pets", 3, probe={"passed": False})
    monkeypatch.setenv("TAGMILL_MODELS", str(settings.models_dir))
    monkeypatch.setenv("TAGMILL_STORE_URL", store_url)

    def run(*words: object) -> Result:
        found = CliRunner().invoke(app, [str(word) for word in words])
        if isinstance(found.exception, TagmillError):
            raise found.exception
        assert found.exit_code == 0, found.output
        return found

    return run


def test_champion_is_what_the_name_means_and_rollback_brings_the_earlier_one_back(
    command: Command, settings: Settings, store_url: str
) -> None:
    def meant(text: str) -> str:
        with closing(Store(store_url)) as store:
            registry = Registry(settings.models_dir)
            return str(resolve(text, registry=registry, aliases=store.aliases))

    newest = json.loads(command("models", "show", "pets", "--json").stdout)["model"]
    assert newest == "pets@2", "pets@3 failed its probe"
    command("models", "promote", "pets@1")
    assert command("models", "promote", "pets@2").stderr == (
        "pets@champion is pets@2, it was pets@1\n"
    )
    assert (meant("pets"), meant("pets@champion"), meant("pets@1")) == (
        "pets@2", "pets@2", "pets@1",
    )  # fmt: skip
    assert "pets@2  2 classes, 224 px, center_crop, champion" in command("models", "list").stdout
    assert json.loads(command("models", "show", "pets", "--json").stdout)["model"] == "pets@2"
    assert command("models", "rollback", "pets").stderr.startswith("pets@champion is pets@1")
    assert meant("pets") == "pets@1"
    with pytest.raises(UsageError, match="no earlier version"):
        command("models", "rollback", "pets")
    for unknown in ("pets@second", "pets@", "birds@champion", "pets@9", "a/b@champion"):
        with pytest.raises(UnknownModel):
            meant(unknown)


def test_run_means_what_the_clusters_champion_is(
    command: Command, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.jpg").write_bytes(b"x")
    words = ("run", tmp_path / "1.jpg", "--dry-run", "--model", "pets")
    assert "1 to label with pets@2" in command(*words).stdout, "the newest that passed"
    command("models", "promote", "pets@1")
    assert "1 to label with pets@1" in command(*words).stdout
    fresh = tmp_path / "fresh.db"
    monkeypatch.setenv("TAGMILL_STORE_URL", f"sqlite:///{fresh}")
    assert "1 to label with pets@2" in command(*words).stdout
    assert not fresh.exists(), "it is only looked into"
    monkeypatch.setenv("TAGMILL_STORE_URL", "postgresql+psycopg://127.0.0.1:9/none")
    with pytest.raises(StoreError, match="pets@NUMBER does without it"):
        command(*words)
    assert "1 to label with pets@1" in command(*words[:-1], "pets@1").stdout
    own = ("--state-dir", settings.state_dir)
    assert "1 to label with pets@2" in command(*words, *own).stdout


def test_version_that_failed_its_probe_is_promoted_by_force_only(command: Command) -> None:
    command("models", "promote", "pets@1")
    with pytest.raises(UsageError, match="pets@3 failed its probe"):
        command("models", "promote", "pets@3")
    assert json.loads(command("models", "show", "pets", "--json").stdout)["model"] == "pets@1"
    command("models", "promote", "pets@3", "--force")
    for wrong in ("pets@9", "nosuch@1", "a/b@1", "mobilenet_v2@1"):
        with pytest.raises(UsageError):
            command("models", "promote", wrong)
    with pytest.raises(UnknownModel, match="no name of a model"):
        command("models", "rollback", "a/b")


def test_harmed_version_is_not_promoted_and_hides_no_other(
    command: Command, settings: Settings
) -> None:
    with (settings.models_dir / "pets" / "2" / "labels.csv").open("a") as file:
        file.write("2,c,newt\n")
    with pytest.raises(ModelUnavailable, match=r"has SHA-256 .*: restore .*/pets/2 from a copy"):
        command("models", "promote", "pets@2")
    for number in ("1", "3"):
        command("models", "promote", f"pets@{number}", "--force")
    (settings.models_dir / "pets" / "1" / "card.json").write_text("{")
    with pytest.raises(ModelUnavailable, match="card"):
        command("models", "rollback", "pets")
    first, *others = command("models", "list").stdout.splitlines()
    assert first.startswith("pets@1  the card ")
    assert [line.split()[0] for line in others] == ["pets@2", "pets@3", "mobilenet_v2@1"]


def test_champion_before_that_is_gone_is_named_and_nothing_is_rolled_back(
    command: Command, settings: Settings
) -> None:
    command("models", "promote", "pets@1")
    command("models", "promote", "pets@2")
    gone = settings.models_dir / "pets" / "1"
    (gone / "card.json").rename(gone / "away")
    with pytest.raises(UsageError, match=r"pets@1, the champion before, is gone from"):
        command("models", "rollback", "pets")
    with pytest.raises(UsageError, match="pets@champion is an alias: say which version"):
        command("models", "promote", "pets@champion")
    (gone / "away").rename(gone / "card.json")
    assert command("models", "rollback", "pets").stderr.startswith("pets@champion is pets@1")


def test_show_and_diff_tell_metrics(command: Command) -> None:
    shown = command("models", "show", "pets@2").stdout
    assert "metrics.accuracy           0.95\n" in shown
    assert "metrics.classes.dog.recall 0.8\n" in shown
    told = command("models", "diff", "pets@1", "pets@2").stdout
    assert "metrics.accuracy 0.9 → 0.95" in [" ".join(line.split()) for line in told.splitlines()]
    assert "probe.passed" in told
    assert "input_size" not in told


def test_exported_version_is_a_registry_of_its_own(command: Command, tmp_path: Path) -> None:
    there = tmp_path / "elsewhere"
    assert command("models", "export", "pets@2", there).stdout.strip() == str(there / "pets" / "2")
    copied = Registry(there)
    assert [str(version) for version in copied.versions()] == ["pets@2"]
    assert copied.labels(copied.resolve("pets")) == [("a", "cat"), ("b", "dog")]
    with pytest.raises(TagmillError, match="already"):
        command("models", "export", "pets@2", there)
    assert [path.name for path in there.iterdir()] == ["pets"], "nothing half is left"
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelUnavailable, match="cannot be written"):
        command("models", "export", "pets@1", tmp_path / "file")


def test_schedule_is_added_listed_paused_and_removed(command: Command, tmp_path: Path) -> None:
    added = command(
        "schedule", "add", "nightly", "--cron", "0 2\n* * *", "--zone", "Europe/Berlin",
        "--train", tmp_path, "--name", "pets", "--min-gain", "0.01",
    )  # fmt: skip
    assert "nightly is due 20" in added.stderr
    assert added.stderr.endswith(" 02:00 Europe/Berlin\n")
    command(
        "schedule",
        "add",
        "labels",
        "--cron",
        "*/5 * * * *",
        "--label",
        tmp_path,
        "--top-k",
        3,
        "--include",
        "*.png",
        "--exclude",
        "x*",
    )
    labels, nightly = map(
        json.loads, command("schedule", "list", "--json").stdout.splitlines()
    )  # by name
    assert nightly["cron"] == "0 2 * * *", "one line, whatever was between its fields"
    assert nightly["request"]["dataset"] == f"file://{tmp_path}"
    assert (nightly["request"]["min_gain"], nightly["request"]["skip_unchanged"]) == (0.01, True)
    assert labels["request"]["source"] == f"file://{tmp_path}"
    assert labels["request"]["model"] == "mobilenet_v2"
    assert [labels["request"][name] for name in ("top_k", "include", "exclude")] == [
        3, ["*.png"], ["x*"],
    ]  # fmt: skip
    command("schedule", "pause", "nightly")
    table = command("schedule", "list").stdout
    assert "paused" in table
    assert f"label {tmp_path} with mobilenet_v2" in table
    assert "nightly is due" in command("schedule", "resume", "nightly").stderr
    command("schedule", "remove", "nightly")
    for words in (("remove",), ("pause",), ("resume",)):
        with pytest.raises(UnknownSchedule):
            command("schedule", *words, "nightly")


@pytest.mark.parametrize(
    "words",
    [
        ("--cron", "0 0 30 2 *", "--train", ".", "--name", "pets"),
        ("--cron", "0 2 * * *", "--zone", "Nowhere", "--train", ".", "--name", "pets"),
        ("--cron", "0 2 * * *", "--train", ".", "--name", "a/b"),
        ("--cron", "0 2 * * *", "--train", ".", "--name", "mobilenet_v2"),
        ("--cron", "0 2 * * *", "--train", "."),
        ("--cron", "0 2 * * *", "--train", "/nowhere/at/all", "--name", "pets"),
        ("--cron", "0 2 * * *", "--train", ".", "--name", "pets", "--label", "."),
        ("--cron", "0 2 * * *", "--train", ".", "--name", "pets", "--top-k", "3"),
        ("--cron", "0 2 * * *", "--label", ".", "--name", "pets"),
        ("--cron", "0 2 * * *"),
        ("--cron", "0 2 * * *", "--label", ".", "--model", "nosuch"),
    ],
)
def test_schedule_that_cannot_be_is_refused(command: Command, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        command("schedule", "add", "nightly", *words)
    assert command("schedule", "list", "--json").stdout == ""


def test_what_cannot_be_imported_is_refused_before_anything_is_loaded(
    command: Command, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\n")
    with pytest.raises(UsageError, match="is no file"):
        command("models", "import", tmp_path / "none.keras", "--name", "x", "--labels", labels)
    with pytest.raises(UnknownModel, match="no name of a model"):
        command("models", "import", labels, "--name", "a/b", "--labels", labels)
    with pytest.raises(UsageError, match="mobilenet_v2 is a built-in model"):
        command("models", "import", labels, "--name", "mobilenet_v2", "--labels", labels)
