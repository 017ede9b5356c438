"""The labels that every photograph must have, whatever happens meanwhile."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from bench.faults.counting import Labels
from bench.faults.field import clean_environment
from tagmill.store import Store


def undisturbed(work: Path, models: Path, photos: Sequence[Path]) -> Labels:
    """Label photographs with nothing in the way: their labels by file name.

    Raises:
        RuntimeError: if not all of them can be labelled.
    """
    home = work / "undisturbed"
    subprocess.run(
        [sys.executable, "-m", "tagmill", "run", str(photos[0].parent)],
        cwd=work,
        env=clean_environment(home, models),
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with closing(Store(f"sqlite:///{home / 'state' / 'tagmill.db'}")) as store:
        found = list(store.outcomes.results(store.jobs.recent(1)[0].id))
    labels = {Path(unquote(result.uri)).name: result.labels for result in found}
    if labels.keys() != {photo.name for photo in photos} or not all(labels.values()):
        raise RuntimeError(f"{len(labels)} of {len(photos)} photographs were labelled")
    return labels
