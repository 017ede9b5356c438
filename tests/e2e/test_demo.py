"""All of tagmill on pictures that it draws: no weights, no registry and no server but its own."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Tagmill
from support.polling import until

from tagmill.cli import demo
from tagmill.errors import UsageError

PICTURES = ("--pictures", 30)


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Tagmill]:
    """The command where nothing is to be had: what it would use leads nowhere."""
    command = Tagmill(tmp_path, models=tmp_path / "nowhere")
    command.state = tmp_path / "tagmill-demo" / "state"
    nowhere = {"TAGMILL_WEIGHTS": str(tmp_path / "no.h5"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command.environment |= {**nowhere, "TAGMILL_STATE_DIR": str(tmp_path / "not-mine")}
    yield command
    assert not command.left_running()
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "not-mine").exists()


def ended(demo: subprocess.Popen[str], code: int = 0) -> str:
    _, said = demo.communicate(timeout=240)
    assert demo.returncode == code, said
    return said


def test_demo_is_interrupted_goes_on_ends_and_has_nothing_left_to_do(offline: Tagmill) -> None:
    first = offline.start("demo", *PICTURES)
    log = offline.state / "logs" / "worker.log"
    until(lambda: log.exists() and "training begins" in log.read_text())
    first.send_signal(signal.SIGINT)
    assert "the same command goes on" in ended(first, 130)
    assert not offline.left_running()

    said = ended(offline.start("demo", *PICTURES))
    assert "going on in tagmill-demo: what is done is kept\ndrawn: 30 pictures of disc" in said
    assert "going on with training t" in said
    assert "demo@1, promoted in" in said
    assert "the first of its name: accuracy" in said
    assert "6 labelled, 0 failed" in said
    assert "of 6 fresh pictures" in said
    assert "schedule demo-nightly trains it again" in said
    folder = offline.home / "tagmill-demo"
    with (folder / "labels.csv").open(newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"demo@1"}
    reports = (folder / "report.html", offline.state / "models" / "demo" / "1" / "report.html")
    assert all("data:image/jpeg" in path.read_text() for path in reports[:1])
    assert all(path.is_file() for path in reports)
    listed = offline("schedule", "list", "--json", "--state-dir", offline.state).stdout
    assert json.loads(listed)["cron"] == "0 2 * * *"

    again = ended(offline.start("demo", *PICTURES))
    assert "nothing to do" in again
    assert "6 labelled before" in again


def test_demo_leaves_a_folder_alone_that_is_none_of_its_own(offline: Tagmill) -> None:
    (offline.home / "pictures").mkdir()
    (offline.home / "pictures" / "mine.txt").touch()
    refused = offline("demo", "--folder", "pictures", code=2)
    assert "is no demo's: name another with --folder" in refused.stderr
    assert [path.name for path in (offline.home / "pictures").iterdir()] == ["mine.txt"]
    file = offline.home / "pictures" / "mine.txt"
    assert "is no demo's" in offline("demo", "--folder", file, code=2).stderr


def test_demo_that_ended_at_its_first_step_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for name in ("broker", "logs"):
        (state / name).mkdir(parents=True)
    (state / "lock").touch()
    assert not demo._is_begun(tmp_path, state)
    (state / "mine.txt").touch()
    with pytest.raises(UsageError, match="is no demo's"):
        demo._is_begun(tmp_path, state)
