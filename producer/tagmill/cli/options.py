"""Options that several commands share, each with its environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", envvar="TAGMILL_STATE_DIR", help="State folder; else .tagmill."),
]
Models = Annotated[
    Path | None,
    typer.Option(
        "--models", envvar="TAGMILL_MODELS", help="Model registry; else in the state folder."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", envvar="TAGMILL_JSON", help="Print JSON, for scripts.")
]
Out = Annotated[
    list[Path] | None,
    typer.Option(
        "--out",
        "-o",
        envvar="TAGMILL_OUT",
        help="Results file: .csv, .jsonl or .parquet; repeatable.",
    ),
]
