"""Resident memory of a lane and of everything that a run starts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil

from bench.ground import Ground
from bench.table import Row

MIB = 1 << 20
MOST_LANE, MOST_TREE = 250 * MIB, 900 * MIB


def rows(ground: Ground) -> Iterator[Row]:
    """Look at the processes of a run every few milliseconds; the peaks count."""
    lane = tree = 0
    with ground.started("memory") as (process, _):
        top = psutil.Process(process.pid)
        while process.poll() is None:
            sizes = {}
            with contextlib.suppress(psutil.NoSuchProcess):
                family = [top, *top.children(recursive=True)]
                for member in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        sizes[member] = member.memory_info().rss
                lanes = [member for member in sizes if _is_lane(member)]
                lane = max([lane, *(sizes[member] for member in lanes)])
                tree = max(tree, sum(sizes.values()))
            time.sleep(0.02)
    yield Row(
        what="resident memory of a lane, at its peak",
        figure=f"{lane / MIB:,.0f} MiB",
        wanted=f"≤ {MOST_LANE // MIB} MiB",
        holds=0 < lane <= MOST_LANE,
    )
    yield Row(
        what=f"resident memory of the whole process tree with {ground.lanes} lanes, at its peak",
        figure=f"{tree / MIB:,.0f} MiB",
        wanted=f"≤ {MOST_TREE // MIB} MiB",
        holds=0 < tree <= MOST_TREE,
        detail="the sum over its processes; pages that they share count in each",
    )


def _is_lane(process: psutil.Process) -> bool:
    """True for a process that the worker forked: it has its parent's command line."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = process.parent()
        command = process.cmdline()
        return "tagmill_worker" in command and parent is not None and parent.cmdline() == command
    return False
