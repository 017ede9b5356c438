"""What the report and the progress line show, counted by hand."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from tagmill.cli import progress as line
from tagmill.contract import (
    ChunkSummary,
    ChunkTimings,
    ErrorCode,
    JobState,
    Label,
    Priority,
    Status,
)
from tagmill.errors import UsageError
from tagmill.report import SHOWN_FAILURES, SHOWN_TILES, check_replaceable, gather, tiles, time_spent
from tagmill.store import Job, Result
from tagmill.watch import Progress


def result(n: int, name: str | None, score: float = 0.5) -> Result:
    return Result(
        job="j",
        n=n,
        uri=f"file:///{n}.jpg",
        version="1-1",
        status=Status.OK if name else Status.FAILED,
        error=None if name else ErrorCode.CORRUPT,
        message=None if name else "why",
        width=1,
        height=1,
        model="m@1",
        labels=(Label(id="n1", name=name, score=score),) if name else (),
        labelled_at=0.0,
    )


def test_labels_and_failures_are_counted_and_few_failures_kept() -> None:
    kept = gather([*(result(n, "cat") for n in range(3)), *(result(n, None) for n in range(3, 23))])
    assert kept.labels == {"cat": 3}
    assert kept.failures == {"corrupt": 20}
    assert [r.n for r in kept.failed["corrupt"]] == list(range(3, 3 + SHOWN_FAILURES))


def test_a_small_job_shows_every_image_in_the_order_of_the_source() -> None:
    kept = gather(result(n, f"name{n % 7}") for n in range(SHOWN_TILES))
    assert [r.n for r in tiles(kept)] == list(range(SHOWN_TILES))


def test_a_large_job_shows_the_surest_of_each_label_common_labels_first() -> None:
    many = [result(n, "cat", n / 1000) for n in range(200)]
    rare = [result(200 + n, f"rare{n}", 0.1) for n in range(10)]
    shown = tiles(gather([*many, *rare]))
    assert [r.n for r in shown[:4]] == [199, 198, 197, 196]
    assert {r.labels[0].name for r in shown[4:]} == {f"rare{n}" for n in range(10)}


def test_the_least_sure_are_kept() -> None:
    kept = gather(result(n, "cat", n / 1000) for n in range(500))
    assert sorted(entry[2].n for entry in kept.unsure) == list(range(16))


def test_time_is_summed_by_part_over_all_lanes() -> None:
    timings = ChunkTimings(fetch_s=1, decode_s=2, predict_s=3, commit_s=4, waiting_s=5)
    assert time_spent([ChunkSummary(lane="a", timings=timings)] * 2) == [
        ("fetch", 2), ("decode", 4), ("predict", 6), ("commit", 8), ("waiting", 10),
    ]  # fmt: skip


def test_only_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.html", tmp_path / "theirs.html"
    ours.write_text('<!doctype html><meta name="generator" content="tagmill 0.1.0">')
    theirs.write_text("<h1>thesis</h1>")
    check_replaceable(ours)
    check_replaceable(tmp_path / "new.html")
    with pytest.raises(UsageError, match="no report of tagmill"):
        check_replaceable(theirs)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_time_left_is_said_as_a_person_would(seconds: float, said: str) -> None:
    assert line.clock(seconds) == said


def test_the_live_line_tells_done_total_rate_time_left_failures_and_what_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        line, "console", Console(file=screen, force_terminal=True, width=120, height=10)
    )
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(line.time, "monotonic", lambda: next(clock))
    job = Job(
        id="j", source="file:///x", model="m@1", top_k=5, state=JobState.RUNNING, listed=1000,
        skipped=100, ok=290, failed=10, chunks=9, pending=6, fresh_since=0.0, created_at=0.0,
        finished_at=None, include=(), exclude=(), priority=Priority.NORMAL, paused=None,
        follow_s=None, breaker=None,
    )  # fmt: skip
    progress = Progress(job=job)
    progress.seen.update({"golden_retriever": 40, "cat": 3})
    progress.failures.update({"corrupt": 8, "not_found": 2})
    with line.LiveProgress() as view:
        view(Progress(job=dataclasses.replace(job, ok=0, failed=0)))
        view(progress)
    shown = screen.getvalue()
    assert (
        "400 of 1,000 images · 30 images/s · 20 s left · 10 failed (8 × corrupt, 2 × not_found)"
        in shown
    )
    assert "seen most: golden retriever 40, cat 3" in shown
