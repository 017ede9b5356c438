"""Which results a user wants to see."""

from __future__ import annotations

from dataclasses import dataclass

from tagmill.contract import Status
from tagmill.store import Result


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """What a result must be to be shown; all that is set must hold.

    Attributes:
        status: how it ended.
        label: a label that it has, by name (case and underscores do not matter) or id.
        min_score: that the label has at least, or the best one where none is named; in [0, 1].
    """

    status: Status | None = None
    label: str | None = None
    min_score: float = 0.0

    def takes(self, result: Result) -> bool:
        """True where the result is wanted."""
        if self.status is not None and result.status is not self.status:
            return False
        if self.label is None:
            best = result.labels[0].score if result.labels else 0.0
            return self.min_score <= 0.0 or best >= self.min_score
        wanted = _plain(self.label)
        return any(
            label.score >= self.min_score and wanted in (_plain(label.name), _plain(label.id))
            for label in result.labels
        )


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ")
