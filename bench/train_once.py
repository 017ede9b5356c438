"""One training in a process of its own, as the worker of the queue does it: JSON in, JSON out."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tagmill.registry import ModelVersion
from tagmill.settings import load_settings
from tagmill.training import TrainingRequest
from tagmill_worker.training.trainer import train


def main(job: dict[str, str]) -> None:
    """Train, and print the result with the seconds of each stage."""
    spent: dict[str, float] = {}
    at = time.perf_counter()
    stage = "start"

    def tell(next_stage: str, _: int, __: int) -> None:
        nonlocal at, stage
        now = time.perf_counter()
        spent[stage] = spent.get(stage, 0.0) + now - at
        at, stage = now, next_stage

    champion = int(job.get("champion", 0))
    settings = load_settings(roots=(Path(job["dataset"]),))
    result = train(
        TrainingRequest(name=job["name"], dataset=job["dataset"]),
        settings=settings,
        champion=ModelVersion(name=job["name"], number=champion) if champion else None,
        progress=tell,
    )
    print(json.dumps({"version": result.version, "said": result.said, "spent": spent}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
