"""A job that makes no sense stops early and says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import Tagmill

from tagmill.contract import NEARLY_ALL_FAILED
from tagmill.store.jobs import BREAKER_OUTCOMES

COUNT = 3 * BREAKER_OUTCOMES


@pytest.fixture
def pages(tagmill: Tagmill) -> Path:
    """Files that a server answered with an error page, and three that were cut off."""
    folder = tagmill.home / "pages"
    folder.mkdir()
    for n in range(COUNT):
        content = b"\xff\xd8\xff\xe0cut" if n < 3 else b"<html>404</html>"
        (folder / f"{n:04}.jpg").write_bytes(content)
    return folder


def test_run_whose_images_nearly_all_fail_pauses_and_says_why(
    tagmill: Tagmill, pages: Path
) -> None:
    done = tagmill("run", pages, code=3)
    assert f"is paused: {NEARLY_ALL_FAILED}, " in done.stderr
    assert (
        "× not_an_image (16 bytes in no format that is read; they begin '<html>40'" in done.stderr
    )
    assert "; 3 × corrupt (" in done.stderr
    assert "--keep-going" in done.stderr
    (job,) = [json.loads(line) for line in tagmill("status", "--json").stdout.splitlines()]
    assert job["state"] == "paused"
    assert f"paused: {NEARLY_ALL_FAILED}" in tagmill("status", job["id"]).stdout
    assert BREAKER_OUTCOMES <= job["failed"] < COUNT
    again = tagmill("run", pages, "--keep-going", "--out", "labels.jsonl")
    assert f"{COUNT - job['failed']} failed, {job['failed']} failed before" in again.stderr
    rows = tagmill.rows("labels.jsonl")
    assert len({row["uri"] for row in rows}) == len(rows) == COUNT
