"""Cron lines with a time zone: when they are due next, whatever the clocks there do.

As Debian's cron has it: a time that the spring's change of clocks leaves out is due right after the
change, and one that the autumn's makes twice is due once; lines with a ``*`` in minute or hour
follow the clock.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from tagmill.errors import UsageError

FIELDS = 5
"""CronSim takes a sixth one, seconds, which a tick every ten seconds cannot keep."""


def next_time(line: str, zone: str, *, after: float) -> float:
    """When a cron line is due next.

    Args:
        line: five fields: minute, hour, day of the month, month, day of the week.
        zone: an IANA name such as ``Europe/Berlin``.
        after: seconds since the epoch; what is returned is later.

    Raises:
        UsageError: if the line is none, is never due, or there is no such zone.
    """
    try:
        clock = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"no time zone {zone!r:.60}: write one as Europe/Berlin or UTC") from error
    if len(line.split()) != FIELDS:
        raise _refusal(line, f"{len(line.split())} fields")
    try:
        found = next(CronSim(line, datetime.fromtimestamp(after, clock)))
    except (CronSimError, StopIteration) as error:
        raise _refusal(line, str(error) or "no such day") from error
    return found.timestamp()


def _refusal(line: str, why: str) -> UsageError:
    return UsageError(
        f"{line!r:.100} is no cron line that is ever due ({why}): write minute, hour, day of the "
        "month, month and day of the week, as '0 2 * * *'"
    )
