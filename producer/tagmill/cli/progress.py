"""The live line of a running job, and the sentences at its end. All of it goes to stderr."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter, deque
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tagmill.contract import JobState
from tagmill.watch import Progress

console = Console(stderr=True, highlight=False, soft_wrap=True)

_WINDOW_S = 5.0
_PLAIN_EVERY_S = 5.0
_LIVE_EVERY_S = 0.25


class LiveProgress:
    """Shows how far a job is: a line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._seen_at: deque[tuple[float, int]] = deque()
        self._shown_at = -math.inf
        self._live: Live | None = None

    def __enter__(self) -> LiveProgress:
        if console.is_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Show a sentence in place of progress."""
        if self._live is not None:
            self._live.update(Text(sentence, style="dim"), refresh=True)
        else:
            print(sentence, file=sys.stderr)

    def __call__(self, progress: Progress) -> None:
        """Show progress, not more often than a person can read."""
        now = time.monotonic()
        every = _LIVE_EVERY_S if self._live is not None else _PLAIN_EVERY_S
        if now - self._shown_at < every:
            return
        self._shown_at = now
        job = progress.job
        done = job.ok + job.failed
        if not done:
            self._seen_at.clear()  # the rate is that of lanes at work
        self._seen_at.append((now, done))
        while self._seen_at[0][0] < now - _WINDOW_S and len(self._seen_at) > 2:
            self._seen_at.popleft()
        then, before = self._seen_at[0]
        rate = (done - before) / (now - then) if now > then and done else 0.0
        if self._live is None:
            if job.listed > job.skipped:
                print(" · ".join([_line(progress, rate), *_seen(progress)]), file=sys.stderr)
            return
        self._live.update(_panel(progress, rate), refresh=True)


def _line(progress: Progress, rate: float) -> str:
    job = progress.job
    done = job.ok + job.failed + job.skipped
    parts = [f"{done:,} of {job.listed:,}{'+' if job.state is JobState.LISTING else ''} images"]
    if rate:
        parts.append(f"{rate:,.0f} images/s")
        if job.state is not JobState.LISTING:
            parts.append(f"{clock(job.open / rate)} left")
    if job.failed:
        why = ", ".join(f"{n:,} × {code}" for code, n in progress.failures.most_common(3))
        parts.append(f"{job.failed:,} failed" + (f" ({why})" if why else ""))
    if job.paused:
        parts.append("paused")
    elif not job.ok + job.failed:
        parts.append("lanes are starting" if job.open else "listing")
    return " · ".join(parts)


def _panel(progress: Progress, rate: float) -> Table:
    job = progress.job
    width = 28
    filled = round(width * (job.listed - job.open) / job.listed) if job.listed else 0
    bar = Text("━" * filled, style="green") + Text("─" * (width - filled), style="bright_black")
    grid = Table.grid()
    grid.add_row(bar + Text("  " + _line(progress, rate)))
    for seen in _seen(progress):
        grid.add_row(Text(seen, style="dim", overflow="ellipsis", no_wrap=True))
    return grid


def _seen(progress: Progress) -> list[str]:
    """What is being seen most, as one phrase; nothing where nothing was seen yet."""
    if not progress.seen:
        return []
    return [f"seen most: {counted(progress.seen)}"]


def counted(names: Counter[str]) -> str:
    """The commonest labels and how often each was seen."""
    return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in names.most_common(5))


def clock(seconds: float) -> str:
    """Seconds as a person says them: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
