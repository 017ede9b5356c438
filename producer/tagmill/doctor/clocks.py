"""Clocks: this machine's against those of the servers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tagmill.doctor.findings import Clock, Look

MOST_APART_S = 5.0
"""Clocks that are set by NTP agree far better."""

_MEND = "set this machine's clock or that one's by NTP: timedatectl set-ntp true"


def read_clock(
    ask: Callable[[], float],
    now: Callable[[], float],
    *,
    of: str,
    spoils: str,
    most_s: float | None = None,
) -> Clock:
    """Compare a clock with this machine's, as if the answer came in the middle of the waiting.

    Args:
        ask: seconds since the epoch, there.
        now: the same, here.
        of: as `Clock` has it, like the rest.
        spoils: as there.
        most_s: as there.
    """
    before = now()
    there = ask()
    here = (before + now()) / 2
    return Clock(of=of, ahead_s=there - here, spoils=spoils, most_s=most_s)


def compare(clocks: Iterable[Clock]) -> Look:
    """Say by how much clocks are apart."""
    look = Look()
    for clock in clocks:
        apart_s = abs(clock.ahead_s)
        way = "ahead of" if clock.ahead_s > 0 else "behind"
        said = f"{clock.of} is {apart_s:,.1f} s {way} this machine's"
        if clock.most_s is not None and apart_s >= clock.most_s:
            look.ill("clocks", f"{said}: {clock.spoils}", _MEND)
        elif apart_s > MOST_APART_S:
            look.note("clocks", f"{said}: {clock.spoils}", _MEND)
        else:
            look.well("clocks", said)
    return look
