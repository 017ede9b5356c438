"""What every benchmark yields: rows, printed as the Markdown table that `README.md` holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        what: was measured, and against what.
        figure: the value that counts, with its unit.
        wanted: the least or the most that it should be; empty for a row that only informs.
        holds: whether it is so.
        detail: the figures behind it.
    """

    what: str
    figure: str
    wanted: str = ""
    holds: bool = True
    detail: str = ""

    def as_markdown(self) -> str:
        verdict = ("yes" if self.holds else "**no**") if self.wanted else ""
        return f"| {self.what} | {self.figure} | {self.wanted} | {verdict} | {self.detail} |"


def show(rows: Iterable[Row]) -> None:
    """Print rows as they come."""
    print("| what | figure | wanted | holds | behind it |\n|---|---|---|---|---|", flush=True)
    for row in rows:
        print(row.as_markdown(), flush=True)
