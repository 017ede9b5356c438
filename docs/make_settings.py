"""Writes the table of settings in `settings.md` from the class; `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from tagmill.settings import Settings

PAGE = Path(__file__).parent / "settings.md"
BEGIN, END = "from tagmill.settings.Settings -->\n", "<!-- end -->"


def table() -> str:
    """The settings as a Markdown table."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, ()) else f"`{field.default}`"
        lines.append(f"| `TAGMILL_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with the table of today's class in it."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is out of date")
    PAGE.write_text(page(), encoding="utf-8")
