"""``tagmill workers`` and ``tagmill scheduler``: who is at work, and who reminds them."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tagmill.cli.opening import existing, settings_of
from tagmill.cli.options import AsJson, StateDir
from tagmill.cli.progress import clock
from tagmill.store import LaneNote
from tagmill.tick import EVERY_S


def workers(context: typer.Context, as_json: AsJson = False, state_dir: StateDir = None) -> None:
    """List the lanes that are alive: where, doing what, how fast."""
    with existing(settings_of(context, state_dir)) as client:
        lanes = client.workers()
        now = client.store.jobs.now()
    if as_json:
        for lane in lanes:
            print(json.dumps(dataclasses.asdict(lane)))
        return
    if not lanes:
        print("no lane is alive: start one with 'tagmill worker'", file=sys.stderr)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("lane", "device", "state", "chunk", "model", "images/s", "done", "up", "seen"):
        table.add_column(name, justify="right" if name in ("images/s", "done") else "left")
    for lane in lanes:
        table.add_row(*_row(lane, now))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


def _row(lane: LaneNote, now: float) -> list[str]:
    chunk = f"{lane.job_id}/{lane.seq}" if lane.job_id else "-"
    return [
        lane.name,
        lane.device,
        str(lane.state),
        chunk,
        lane.model or "-",
        f"{lane.rate:,.0f}",
        f"{lane.done:,}",
        clock(now - lane.started_at),
        f"{lane.seen_s_ago:.0f} s ago",
    ]


def scheduler(
    context: typer.Context,
    every_s: Annotated[
        float,
        typer.Option(
            "--every", envvar="TAGMILL_TICK_S", min=0.1, help="Seconds between two ticks."
        ),
    ] = EVERY_S,
    state_dir: StateDir = None,
) -> None:
    """Send the tick, which finds lost chunks; one for a cluster.

    Several do no harm.
    """
    from tagmill.scheduler import run_scheduler  # Celery takes a moment to load

    run_scheduler(settings_of(context, state_dir), every_s=every_s)
