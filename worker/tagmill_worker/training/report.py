"""The report of a training: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from tagmill.errors import StoreFull
from tagmill.sources import printable, readable
from tagmill.thumbnails import Thumbnails
from tagmill.version import __version__
from tagmill_worker.training.contents import Dataset
from tagmill_worker.training.dataset import Example
from tagmill_worker.training.evaluation import Comparison, Evaluation
from tagmill_worker.training.probe import Probed

MOST_SHOWN_CLASSES = 40
"""Of a confusion matrix that a person can look at."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a report tells.

    Attributes:
        version: as ``name@number``.
        dataset: that was trained on.
        evaluation: on its holdout.
        comparison: with the champion, if there is one.
        probed: what became of the probe.
        is_better: it is to be promoted.
        said: why, or why not.
        parameters: how it was made, by name.
    """

    version: str
    dataset: Dataset
    evaluation: Evaluation
    comparison: Comparison | None
    probed: Probed
    is_better: bool
    said: str
    parameters: Mapping[str, Any]


def write_report(path: Path, facts: Facts, thumbnails: Thumbnails) -> None:
    """Write the report of a training.

    Args:
        path: where to.
        facts: what it tells.
        thumbnails: of the images to show.

    Raises:
        StoreFull: if there is no room left for the file.
    """
    dataset, evaluation = facts.dataset, facts.evaluation
    held_out = [
        example
        for example, is_out in zip(dataset.examples, dataset.is_holdout, strict=True)
        if is_out
    ]
    environment = Environment(
        loader=PackageLoader("tagmill_worker"), autoescape=select_autoescape(default=True)
    )
    is_small = len(dataset.classes) <= MOST_SHOWN_CLASSES
    html = environment.get_template("training.html.j2").render(
        release=__version__,
        version=facts.version,
        dataset=printable(readable(dataset.name)),
        evaluation=evaluation,
        comparison=facts.comparison,
        probed=facts.probed,
        is_better=facts.is_better,
        said=facts.said,
        trained_on=int((~dataset.is_holdout).sum()),
        matrix=evaluation.matrix.tolist() if is_small else None,
        confusions=_confusions(evaluation, held_out, thumbnails),
        findings=dataset.findings,
        parameters=list(facts.parameters.items()),
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(html.encode("utf-8", "replace"))
    except OSError as error:
        raise StoreFull(f"{path} cannot be written: {error.strerror}") from error


def _confusions(
    evaluation: Evaluation, held_out: Sequence[Example], thumbnails: Thumbnails
) -> list[dict[str, Any]]:
    return [
        {
            "label": pair.label,
            "said": pair.said,
            "count": pair.count,
            "tiles": [_tile(held_out[number], thumbnails) for number in pair.examples],
        }
        for pair in evaluation.confusions
    ]


def _tile(example: Example, thumbnails: Thumbnails) -> dict[str, Any]:
    picture = thumbnails.get(example.uri, example.version)
    return {
        "name": readable(example.uri).rpartition("/")[2],
        "path": readable(example.uri),
        "picture": base64.b64encode(picture).decode() if picture else None,
    }
