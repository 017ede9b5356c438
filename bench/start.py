"""From the start of the command to the first labels in the store, the model already built."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.ground import Ground
from bench.table import Row

RUNS = 5
MOST_S = 4.0


def rows(ground: Ground) -> Iterator[Row]:
    """Start on a new state folder each time: an empty store and an empty broker."""
    ground.run("warm-start")
    took = []
    for turn in range(RUNS):
        with ground.started(f"start{turn}") as (_, at):
            pass
        first = ground.ledger(f"start{turn}", "SELECT min(committed_at) FROM chunks")[0][0]
        took.append(float(str(first)) - at)
    median = statistics.median(took)
    yield Row(
        what="start of the command to the first committed chunk, model built, new state folder",
        figure=f"{median:.2f} s",
        wanted=f"< {MOST_S:.0f} s",
        holds=median < MOST_S,
        detail=f"{min(took):.2f} to {max(took):.2f} s in {RUNS} runs",
    )
