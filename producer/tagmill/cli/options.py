"""Options that several commands share, each with its environment variable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", envvar="TAGMILL_STATE_DIR", help="Where all is kept [.tagmill]."),
]
Models = Annotated[
    Path | None,
    typer.Option("--models", envvar="TAGMILL_MODELS", help="Model registry [STATE_DIR/models]."),
]
AsJson = Annotated[
    bool, typer.Option("--json", envvar="TAGMILL_JSON", help="Print JSON, for scripts.")
]
