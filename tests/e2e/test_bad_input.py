"""What people have and do that nobody planned: names, links, files in the way, broken models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support import hostile
from support.command import Tagmill
from support.polling import missing

from tagmill.registry import sha256
from tagmill.sources import path_of

ODD = "a:b #1 ?x=y %41&[red]"


@pytest.fixture
def folder(tagmill: Tagmill, photos: list[Path]) -> Path:
    """Six photographs."""
    target = tagmill.home / "photos"
    target.mkdir()
    for photo in photos[::40]:
        shutil.copyfile(photo, target / photo.name)
    target.joinpath("six.jpg").write_bytes(hostile.jpeg())
    return target


def test_any_name_will_do_for_source_and_state_folder(tagmill: Tagmill, folder: Path) -> None:
    odd = tagmill.home / ODD
    folder.rename(odd)
    tagmill.environment["TAGMILL_STATE_DIR"] = str(odd / ODD)
    tagmill.state = odd / ODD
    done = tagmill("run", odd, "--out", "labels.jsonl")
    assert "6 labelled, 0 failed in" in done.stderr
    assert {os.path.dirname(path_of(row["uri"])) for row in tagmill.rows("labels.jsonl")} == {
        str(odd)
    }
    assert (odd / ODD / "tagmill.db").exists()
    assert "0 labelled, 0 failed, 6 labelled before" in tagmill("run", odd).stderr
    assert ODD in tagmill("status").stdout.replace("\n", "")


def test_store_of_a_cluster_in_the_environment_is_not_used_by_run(
    tagmill: Tagmill, folder: Path
) -> None:
    elsewhere = {"TAGMILL_STORE_URL": f"sqlite:///{tagmill.home}/other.db"}
    done = tagmill("run", folder, **elsewhere)
    assert "6 labelled" in done.stderr
    assert "TAGMILL_STORE_URL is not written to" in done.stderr
    assert not (tagmill.home / "other.db").exists()
    named = tagmill("results", "--state-dir", tagmill.state, **elsewhere).stdout
    assert len(named.splitlines()) == 6


def changed_model(tagmill: Tagmill, models: Path, name: str, content: bytes) -> str:
    """A registry whose model has other content in a file, with the hash to it."""
    registry = tagmill.home / "registry"
    shutil.copytree(models, registry)
    home = registry / "mobilenet_v2" / "1"
    (home / name).write_bytes(content)
    card = json.loads((home / "card.json").read_bytes())
    card["files"][name] = sha256(home / name)
    (home / "card.json").write_text(json.dumps(card))
    return str(registry)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.tflite", b"no model", "model mobilenet_v2@1 cannot be loaded"),
        ("labels.csv", b"index,wnid,label\n0,a,b\n", "has 1,000 classes and 1 labels"),
    ],
)
def test_model_that_is_none_ends_the_run_with_the_reason(
    tagmill: Tagmill, folder: Path, models: Path, name: str, content: bytes, said: str
) -> None:
    registry = changed_model(tagmill, models, name, content)
    assert said in tagmill("run", folder, code=3, TAGMILL_MODELS=registry).stderr


def test_raised_limit_is_heeded(tagmill: Tagmill, folder: Path) -> None:
    small = tagmill("run", folder, "--strict", code=1, TAGMILL_MAX_PIXELS="10000")
    assert "0 labelled, 6 failed" in small.stderr
    assert "6 labelled, 0 failed" in tagmill("run", folder, "--strict").stderr


def test_failures_of_an_earlier_run_are_told_apart_and_can_be_retried(
    tagmill: Tagmill, folder: Path
) -> None:
    (folder / "bad.jpg").write_text("no image")
    tagmill("run", folder)
    second = tagmill("run", folder, "--strict", code=1)
    assert "0 labelled, 0 failed, 6 labelled before, 1 failed before" in second.stderr
    job = json.loads(tagmill("status", "--json").stdout.splitlines()[0])["id"]
    assert "1 × not_an_image" in tagmill("status", job).stdout
    again = tagmill("retry", job, "--out", "labels.jsonl")
    assert "0 labelled, 1 failed, 6 labelled before in" in again.stderr
    assert len(tagmill.rows("labels.jsonl")) == 7


def test_source_that_is_none_leaves_no_job(tagmill: Tagmill, folder: Path) -> None:
    tagmill("run", folder)
    (folder / "list.jsonl").write_text('"a.jpg"\n{"uri":\n')
    tagmill("run", folder / "list.jsonl", code=2)
    (tagmill.home / "empty").mkdir()
    tagmill("run", "empty", code=2)
    assert len(tagmill("status", "--json").stdout.splitlines()) == 1
    assert len(tagmill("results").stdout.splitlines()) == 6


def test_cancelled_job_is_not_retried(tagmill: Tagmill, folder: Path) -> None:
    (folder / "bad.jpg").write_text("no image")
    tagmill("run", folder)
    job = json.loads(tagmill("status", "--json").stdout)["id"]
    assert "is done already" in tagmill("cancel", job, code=2).stderr
    for wrong in ("nosuch", "%", os.fsdecode(b"\xff")):
        for command in ("status", "results", "cancel", "retry"):
            assert "no job" in tagmill(command, wrong, code=2).stderr


def test_thumbnails_are_not_labelled(tagmill: Tagmill, folder: Path) -> None:
    own = folder / "state"
    tagmill("run", folder, "--state-dir", own)
    assert list(own.glob("thumbnails/*/*")), "a report was written"
    for text in (folder, f"{folder}/**/*.jpg"):
        done = tagmill("run", text, "--state-dir", tagmill.home / "other", "--again")
        assert "6 labelled, 0 failed in" in done.stderr


def test_odd_exif_costs_neither_label_nor_report(tagmill: Tagmill, folder: Path) -> None:
    odd = hostile.odd_exif()
    for name, data in odd.items():
        (folder / name).write_bytes(data)
    assert f"{6 + len(odd)} labelled, 0 failed" in tagmill("run", folder).stderr
    report = (tagmill.home / "report.html").read_text()
    assert all(name in report for name in odd)
    assert "no longer there" not in report


def test_pixels_over_pillows_own_limit_cost_no_report(tagmill: Tagmill, folder: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(folder / "huge.png")
    done = tagmill("run", folder, TAGMILL_MAX_PIXELS="300000000")
    assert "7 labelled, 0 failed" in done.stderr
    assert (tagmill.home / "report.html").exists()


def test_files_in_the_way_are_not_written_over(tagmill: Tagmill, folder: Path) -> None:
    mine = folder / "mine.csv"
    mine.write_text("uri\nsix.jpg\n")
    os.mkfifo(tagmill.home / "fifo.html")
    os.mkfifo(folder / "fifo.csv")
    for arguments, said in (
        (["run", mine, "--out", mine], "is the source already"),
        (["run", folder, "-o", "a.csv", "-o", "a.csv"], "is one of the files to be written"),
        (["run", folder, "--report", "fifo.html"], "is no regular file"),
        (["run", folder, "--out", "x" * 252 + ".csv"], "File name too long"),
        (["run", folder / "fifo.csv"], "a manifest is a regular file"),
        (["results", "--out", "no/a.csv"], "there is no folder no"),
    ):
        assert said in tagmill(*arguments, code=2).stderr
    assert mine.read_text() == "uri\nsix.jpg\n"


def test_root_is_for_retry_too(tagmill: Tagmill, folder: Path) -> None:
    lists = tagmill.home / "lists"
    lists.mkdir()
    (lists / "l.txt").write_text(f"{folder}/six.jpg\n{folder}/late.jpg\n")
    tagmill("run", lists / "l.txt", "--root", folder)
    (folder / "late.jpg").write_bytes(hostile.jpeg())
    job = json.loads(tagmill("status", "--json").stdout)["id"]
    tagmill("retry", job, "--root", folder, "--strict")


def test_names_do_not_speak_to_the_terminal(tagmill: Tagmill, folder: Path) -> None:
    evil = folder / "\x1b]0;evil\x07\x1b[31m <b>&[bold]"
    evil.mkdir()
    (evil / "x\ny.jpg").write_bytes(hostile.jpeg())
    done = tagmill("run", evil, "--report", "evil.html")
    shown = [done, tagmill("status"), tagmill("run", evil, "--dry-run")]
    assert not any("\x1b" in one.stdout + one.stderr for one in shown)
    assert "[bold]" in shown[1].stdout
    html = (tagmill.home / "evil.html").read_text()
    assert "\x1b" not in html
    assert "<b>&[bold]" not in html
    ascii_only = tagmill("run", evil, "--dry-run", PYTHONIOENCODING="ascii")
    assert "1 images in" in ascii_only.stdout


def test_reader_that_has_enough_is_no_error(tagmill: Tagmill) -> None:
    listed = tagmill.home / "list.txt"
    listed.write_text("".join(f"{'x' * 200}{n}.jpg\n" for n in range(4000)))
    tagmill("run", listed, "--no-report", "--keep-going")
    for command in ("results", "results --format csv", "status"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m tagmill {command} | head -n 1 >/dev/null; "
             "echo ${PIPESTATUS[0]}"],
            cwd=tagmill.home, env=tagmill.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("0\n", "")


def test_output_that_cannot_be_written_is_one_line(tagmill: Tagmill, folder: Path) -> None:
    tagmill("run", folder, "--no-report")
    for command in ("results", "results --format csv", "status"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m tagmill {command} > /dev/full"],
            cwd=tagmill.home, env=tagmill.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 3
        assert done.stderr.startswith("tagmill: No space left on device")
        assert len(done.stderr.splitlines()) == 1


def test_state_folder_of_another_version_or_kind_is_refused(tagmill: Tagmill, folder: Path) -> None:
    tagmill("run", folder)
    (tagmill.state / "format.json").write_text('{"format": 99}')
    for command in (["run", folder], ["status"], ["results"], ["run", folder, "--dry-run"]):
        assert "has format 99, this release works with 1" in tagmill(*command, code=3).stderr
    (tagmill.home / "file").write_text("")
    assert "it is a file" in tagmill("status", "--state-dir", "file", code=3).stderr


def test_damaged_broker_files_of_an_earlier_run_are_no_trouble(
    tagmill: Tagmill, folder: Path
) -> None:
    tagmill("run", folder)
    for path in (tagmill.state / "broker").glob("appendonlydir/*"):
        path.write_bytes(b"nonsense")
    assert "6 labelled" in tagmill("run", folder, "--again").stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files and changes users")
def test_device_and_unreadable_file_in_a_run(tagmill: Tagmill, folder: Path) -> None:
    os.mknod(folder / "device.jpg", 0o20666, os.makedev(1, 5))
    (folder / "unreadable.jpg").write_bytes(hostile.jpeg())
    (folder / "unreadable.jpg").chmod(0)
    if shutil.which("setpriv") is None:
        missing("no setpriv")
    # Root reads everything, unless it lacks the capability to.
    done = subprocess.run(
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
         "--inh-caps=-dac_override,-dac_read_search",
         *tagmill.command("run", folder, "--out", "labels.jsonl")],
        cwd=tagmill.home, env=tagmill.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ends = {Path(path_of(row["uri"])).name: row["error"] for row in tagmill.rows("labels.jsonl")}
    assert ends["device.jpg"] == "not_an_image"
    assert ends["unreadable.jpg"] == "forbidden"
    assert sorted(ends.values(), key=str).count(None) == 6


def test_missing_pyarrow_is_said_before_the_work(tagmill: Tagmill, folder: Path) -> None:
    hide = tagmill.home / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'pyarrow' else real(name, *a)\n"
    )
    said = tagmill("run", folder, "-o", "a.parquet", code=3, PYTHONPATH=str(hide)).stderr
    assert "pip install 'tagmill[parquet]'" in said
    assert not tagmill.state.exists()
