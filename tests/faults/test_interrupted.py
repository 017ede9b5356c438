"""Whatever ends a run in the middle, running it again ends with one outcome for every image."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from pathlib import Path

import psutil
import pytest
from support.command import Tagmill
from support.polling import until

COPIES = 3


@pytest.fixture
def folder(tagmill: Tagmill, photos: list[Path]) -> Path:
    """600 real photographs."""
    for copy in range(COPIES):
        for photo in photos:
            target = tagmill.home / "photos" / str(copy) / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo, target)
    return tagmill.home / "photos"


@pytest.fixture(scope="session")
def undisturbed(
    photos: list[Path], models: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, object]]]:
    """The labels of a run that nothing disturbed, by file name."""
    tagmill = Tagmill(tmp_path_factory.mktemp("undisturbed"), models=models)
    tagmill("run", photos[0].parent, "--out", "labels.jsonl")
    return {Path(row["uri"]).name: row["labels"] for row in tagmill.rows("labels.jsonl")}


def committed(tagmill: Tagmill) -> int:
    """Outcomes in the store so far."""
    try:
        with sqlite3.connect(f"file:{tagmill.state}/tagmill.db?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM outcomes").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def check_whole(
    tagmill: Tagmill, folder: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    """Run once more and count: every image one outcome, the right one, and the next job works."""
    tagmill("run", folder, "--out", "labels.jsonl")
    rows = tagmill.rows("labels.jsonl")
    assert len({row["uri"] for row in rows}) == len(rows) == COPIES * len(undisturbed)
    for row in rows:
        assert row["labels"] == undisturbed[Path(row["uri"]).name]
    following = tagmill("run", folder)
    assert f"0 labelled, 0 failed, {len(rows)} labelled before" in following.stderr


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(
    tagmill: Tagmill, folder: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    run = tagmill.start("run", folder, "--out", "labels.jsonl")
    until(lambda: committed(tagmill) > 100)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert " -m tagmill run " in said
    assert "stopping: lanes finish the chunks in hand" in said
    assert "interrupted" in tagmill("status").stdout
    assert "Traceback" not in said
    assert not tagmill.left_running()
    done = committed(tagmill)
    assert 100 < done < 600
    again = tagmill("run", folder, "--out", "labels.jsonl")
    assert f"{600 - done} labelled, 0 failed, {done} labelled before" in again.stderr
    states = [json.loads(line)["state"] for line in tagmill("status", "--json").stdout.splitlines()]
    assert states == ["done", "superseded"]
    check_whole(tagmill, folder, undisturbed)


def test_interrupted_again_goes_on_and_does_not_begin_again(
    tagmill: Tagmill, folder: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    tagmill("run", folder)
    run = tagmill.start("run", folder, "--again")
    until(lambda: committed(tagmill) > 700)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    done = committed(tagmill) - 600
    again = tagmill("run", folder, "--again")
    assert f"{600 - done} labelled, 0 failed, {done} labelled before" in again.stderr
    check_whole(tagmill, folder, undisturbed)


def test_killed_run_leaves_nothing_behind_and_nothing_is_lost(
    tagmill: Tagmill, folder: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    for more in (50, 250):
        run = tagmill.start("run", folder)
        until(lambda more=more: committed(tagmill) > more)
        run.kill()
        run.communicate(timeout=60)
        until(lambda: not tagmill.left_running(), within_s=30)
    check_whole(tagmill, folder, undisturbed)


def test_killed_worker_is_said_and_the_next_run_goes_on(
    tagmill: Tagmill, folder: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    run = tagmill.start("run", folder)
    until(lambda: committed(tagmill) > 50)
    worker = psutil.Process(tagmill.lanes()[0].ppid())
    worker.kill()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 3
    assert "tagmill: the lanes stopped" in said
    check_whole(tagmill, folder, undisturbed)


def test_killed_broker_is_said_and_the_next_run_goes_on(
    tagmill: Tagmill, folder: Path, undisturbed: dict[str, list[dict[str, object]]]
) -> None:
    run = tagmill.start("run", folder)
    until(lambda: committed(tagmill) > 50)
    broker = psutil.Process(run.pid).children()
    next(process for process in broker if "valkey" in process.name()).kill()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 3
    assert "tagmill: the embedded broker ended with exit code -9" in said
    assert not tagmill.left_running()
    check_whole(tagmill, folder, undisturbed)


def test_job_cancelled_from_elsewhere_ends_the_run(tagmill: Tagmill, folder: Path) -> None:
    run = tagmill.start("run", folder)
    until(lambda: committed(tagmill) > 50)
    with sqlite3.connect(tagmill.state / "tagmill.db") as connection:
        job = connection.execute("SELECT id FROM jobs").fetchone()[0]
    tagmill("cancel", job)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 3
    assert f"job {job} was cancelled from elsewhere" in said
    assert not (tagmill.home / "report.html").exists()
    assert committed(tagmill) < 600


def test_file_deleted_between_listing_and_reading_is_not_found(
    tagmill: Tagmill, folder: Path
) -> None:
    run = tagmill.start("run", folder, "--out", "labels.jsonl", "--lanes", "1")
    until(lambda: committed(tagmill) > 0)
    for path in sorted((folder / "2").iterdir())[-10:]:
        path.unlink()
    run.communicate(timeout=120)
    ends = [row["error"] or "ok" for row in tagmill.rows("labels.jsonl")]
    assert ends == ["ok"] * 590 + ["not_found"] * 10
