"""What a version's card says, as ``tagmill models`` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tagmill.registry import Card, ModelVersion, Registry
from tagmill.sources import printable


def about(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """All that a version says of itself, for scripts."""
    card = registry.card(version)
    return {
        "model": str(version),
        "path": registry.where(version),
        "input_size": card.input_size,
        "geometry": card.geometry,
        "resize_ratio": card.resize_ratio,
        "classes": card.classes,
        **{name: value for name, value in card.about.items() if name not in ("name", "version")},
        "files": card.files,
    }


def accuracy(card: Card) -> str:
    """The accuracy on its holdout, of a version that was trained here."""
    try:
        metrics = card.about["metrics"]
        return f", accuracy {metrics['accuracy']['value']:.3f} of {metrics['holdout_images']:,}"
    except (KeyError, TypeError, ValueError):  # imported, or another release's
        return ""


def flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested values with their path; rows of a table are named by their words."""
    for name, value in values.items():
        rows = value if isinstance(value, list) else []
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}.")
        elif rows and all(isinstance(row, dict) for row in rows):
            for row in rows:
                words = " ".join(word for word in row.values() if isinstance(word, str))
                rest = {key: cell for key, cell in row.items() if not isinstance(cell, str)}
                yield from flat(rest, f"{before}{name}.{words}.")
        else:
            yield f"{before}{name}", f"{value:.4g}" if isinstance(value, float) else str(value)


def width(names: Iterable[str]) -> int:
    """Characters of the longest of some names."""
    return max((len(printable(name)) for name in names), default=0)
