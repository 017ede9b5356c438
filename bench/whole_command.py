"""`tagmill run` from start to exit, against scripts around Keras' `model.predict`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from bench.ground import Ground
from bench.table import Row

PAIRS = 5
LOOP_IMAGES = 200
BATCHED_IMAGES = 640


def rows(ground: Ground) -> Iterator[Row]:
    """Run the command and both scripts in turns; the medians of the ratios count."""
    ground.run("warm-whole")
    loops, batches, runs = [], [], []
    for turn in range(PAIRS):
        loops.append(_script(ground, "loop", LOOP_IMAGES))
        runs.append(1000 / ground.run(f"whole{turn}"))
        batches.append(_script(ground, "batched", BATCHED_IMAGES))
    over_loop = statistics.median(run / loop for run, loop in zip(runs, loops, strict=True))
    over_batches = statistics.median(run / one for run, one in zip(runs, batches, strict=True))
    run = statistics.median(runs)
    yield Row(
        what="`tagmill run` on 1,000 photographs, whole command with start, results and report, "
        "against the per-image Keras loop, per image",
        figure=f"{over_loop:.1f}×",
        wanted="≥ 12×",
        holds=over_loop >= 12,
        detail=f"{run:,.0f} against {statistics.median(loops):,.1f} images/s "
        f"(the loop's imports and loading left out), median of {PAIRS} pairs",
    )
    yield Row(
        what="the same against a Keras script with batches of 32",
        figure=f"{over_batches:.1f}×",
        detail=f"{run:,.0f} against {statistics.median(batches):,.1f} images/s",
    )


def _script(ground: Ground, kind: str, count: int) -> float:
    """Images/s of a script."""
    weights = os.environ.get("TAGMILL_WEIGHTS", "")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.keras_scripts"),
            *(kind, weights, str(ground.thousand), str(count)),
        ],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    images, seconds = done.stdout.split()[-2:]
    return int(images) / float(seconds)
