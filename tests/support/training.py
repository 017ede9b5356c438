"""What tests of training share: a request, and a training in a process that can be killed.

As a program: trains as ``sys.argv[1]`` says (JSON), tells each step on stdout, and the result last.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tagmill.training import TrainingRequest


def start(request: TrainingRequest, state: Path, **more: Any) -> subprocess.Popen[str]:
    """A training as a process of its own, a checkpoint after every step."""
    job = {"request": asdict(request), "state": str(state), **more}
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What a training tells."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)


def _main(job: dict[str, Any]) -> None:
    from tagmill.registry import Registry
    from tagmill.settings import load_settings
    from tagmill_worker.training.trainer import BASE, train
    from tagmill_worker.training.untrained import build_untrained

    def tell(stage: str, done: int, total: int) -> None:
        print(json.dumps({"stage": stage, "done": done, "total": total}), flush=True)

    state, request = Path(job["state"]), TrainingRequest(**job["request"])
    models = job.get("models", str(state / "models"))
    settings = load_settings(
        state_dir=state, models=models, roots=(Path(request.dataset),), lanes=1
    )
    base = BASE
    if "small" in job:
        registry = Registry(Path(models))
        base = build_untrained(registry, "small", size=job["small"])
        if not job["untrained"]:  # as if what it sees were worth something
            card = registry.path(base) / "card.json"
            card.write_text(json.dumps(json.loads(card.read_text()) | {"untrained": False}))
    result = train(request, settings=settings, base=base, progress=tell, checkpoint_s=0)
    print(json.dumps({"result": asdict(result)}), flush=True)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
