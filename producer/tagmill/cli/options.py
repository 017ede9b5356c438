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
    str | None,
    typer.Option(
        "--models",
        envvar="TAGMILL_MODELS",
        metavar="PLACE",
        help="Model registry, a folder or s3://bucket/prefix; else in the state folder.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", envvar="TAGMILL_JSON", help="Print JSON, for scripts.")
]


class ResultsFile(str):
    """A path or an S3 URI; of its own type, as Typer splits a variable of texts at spaces."""

    __slots__ = ()


def _with_uris_whole(values: list[str] | None) -> list[str]:
    """Files as they were meant: a variable joins several by ``:``, which URIs hold too."""
    whole: list[str] = []
    for value in values or ():
        if value.startswith("//") and whole and whole[-1] == "s3":
            whole[-1] = f"s3:{value}"
        else:
            whole.append(value)
    return whole


Out = Annotated[
    list[ResultsFile] | None,
    typer.Option(
        "--out",
        "-o",
        envvar="TAGMILL_OUT",
        path_type=str,
        metavar="FILE",
        callback=_with_uris_whole,
        help="Results: .csv, .jsonl or .parquet, here or in S3; repeatable.",
    ),
]
Model = Annotated[
    str,
    typer.Option("--model", envvar="TAGMILL_MODEL", help="Name, name@version or name@champion."),
]
TopK = Annotated[
    int, typer.Option("--top-k", envvar="TAGMILL_TOP_K", min=1, max=100, help="Labels per image.")
]
Again = Annotated[
    bool, typer.Option("--again", envvar="TAGMILL_AGAIN", help="Label all, known or not.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", envvar="TAGMILL_DRY_RUN", help="Say what would be done.")
]
Strict = Annotated[
    bool, typer.Option("--strict", envvar="TAGMILL_STRICT", help="Exit with 1 if items failed.")
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        envvar="TAGMILL_KEEP_GOING",
        help="Go on though nearly all of the first items fail.",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        envvar="TAGMILL_INCLUDE",
        help="Only names that match, '*' crosses '/'; repeatable; else images by suffix.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", envvar="TAGMILL_EXCLUDE", help="No names that match; repeatable."),
]
