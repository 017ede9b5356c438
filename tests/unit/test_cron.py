"""When cron lines are due, through both changes of clocks."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from tagmill.cron import next_time
from tagmill.errors import UsageError


def due(line: str, zone: str, start: str, count: int) -> list[str]:
    """The next times from a local time on, as that zone's clocks show them, with the offset."""
    clock = ZoneInfo(zone)
    at = datetime.fromisoformat(start).replace(tzinfo=clock).timestamp()
    found = []
    for _ in range(count):
        at = next_time(line, zone, after=at)
        found.append(datetime.fromtimestamp(at, clock).isoformat(timespec="minutes"))
    return found


def test_line_is_due_by_the_clocks_of_its_zone() -> None:
    assert due("0 2 * * *", "Europe/Berlin", "2026-01-31T12:00", 2) == [
        "2026-02-01T02:00+01:00", "2026-02-02T02:00+01:00",
    ]  # fmt: skip
    assert due("30 5 * * MON", "Asia/Kolkata", "2026-01-01T00:00", 1) == ["2026-01-05T05:30+05:30"]


def test_time_that_the_spring_leaves_out_is_due_right_after_the_change() -> None:
    assert due("30 2 * * *", "Europe/Berlin", "2026-03-28T03:00", 2) == [
        "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00",
    ]  # fmt: skip


def test_time_that_the_autumn_makes_twice_is_due_once() -> None:
    assert due("30 2 * * *", "Europe/Berlin", "2026-10-24T03:00", 2) == [
        "2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00",
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("line", ["0 2 * * *", "30 1 * * *", "59 2 * * *"])
def test_nightly_line_is_due_once_on_each_day_of_a_year(line: str, zone: str) -> None:
    days = [text[:10] for text in due(line, zone, "2026-01-01T00:00", 365)]
    first = datetime.fromisoformat("2026-01-01")
    assert days == [(first + timedelta(days=n)).date().isoformat() for n in range(365)]


def test_hourly_line_is_due_every_hour_that_there_is() -> None:
    for start in ("2026-03-29T00:30", "2026-10-25T00:30"):
        at = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
        times = [at := next_time("0 * * * *", "Europe/Berlin", after=at) for _ in range(6)]
        assert {after - before for before, after in pairwise(times)} == {3600.0}


@pytest.mark.parametrize(
    ("line", "zone", "said"),
    [
        ("0 0 30 2 *", "UTC", "ever due .Bad day-of-month"),
        ("0 0 31 4 *", "UTC", "ever due .Bad day-of-month"),
        ("0 25 * * *", "UTC", "is no cron line that is ever due"),
        ("every night", "UTC", "is no cron line that is ever due"),
        ("", "UTC", "is no cron line that is ever due"),
        ("0 2 * * * *", "UTC", "is no cron line that is ever due"),
        ("@daily", "UTC", "is no cron line that is ever due"),
        ("0 2 * * *", "Europe/Nowhere", "no time zone"),
        ("0 2 * * *", "../etc/passwd", "no time zone"),
        ("0 2 * * *", "", "no time zone"),
        ("0 2 * * *", "/etc/localtime", "no time zone"),
        ("0 2 * * *", "a\0b", "no time zone"),
    ],
)
def test_line_that_is_none_or_is_never_due_is_refused(line: str, zone: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        next_time(line, zone, after=0.0)
