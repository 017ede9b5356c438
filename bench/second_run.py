"""The same command once more over a folder that is labelled already."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator

from bench.ground import Ground
from bench.table import Row

RUNS = 3
MOST_S = 3.0


def rows(ground: Ground) -> Iterator[Row]:
    """Label a folder of 1,000, then run again; none of its files may be read."""
    ground.run("second")
    for path in ground.thousand.iterdir():
        # Linux notes the time of reading for files whose last reading is older than a day.
        os.utime(path, ns=(0, path.stat().st_mtime_ns))
    took = [ground.run("second") for _ in range(RUNS)]
    read = sum(path.stat().st_atime_ns != 0 for path in ground.thousand.iterdir())
    new = ground.ledger("second", "SELECT sum(chunks), sum(skipped) FROM jobs WHERE skipped > 0")
    median = statistics.median(took)
    yield Row(
        what="`tagmill run` once more over 1,000 labelled photographs, with results and report",
        figure=f"{median:.2f} s",
        wanted=f"< {MOST_S:.0f} s, none decoded",
        holds=median < MOST_S and read == 0 and new == [(0, RUNS * 1000)],
        detail=f"{read} files read, {new[0][0]} chunks made, median of {RUNS}",
    )
