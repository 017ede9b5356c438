"""``tagmill doctor``: is everything there that tagmill needs?"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tagmill.cli.options import AsJson, Models, StateDir
from tagmill.settings import load_settings

_STYLES = {"ok": "green", "note": "yellow", "fail": "bold red"}


def doctor(
    migrated: Annotated[
        bool,
        typer.Option(
            "--migrate",
            envvar="TAGMILL_MIGRATE",
            help="Only bring the store's schema up to date.",
        ),
    ] = False,
    as_json: AsJson = False,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Look for what is missing or wrong, and say how to mend it."""
    from tagmill.doctor import Health, examine, migrate  # what it looks at takes a moment to load

    settings = load_settings(models=models, state_dir=state_dir)
    if migrated:
        print(migrate(settings), file=sys.stderr)
        return
    findings = list(examine(settings))
    out = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        if as_json:
            print(json.dumps(dataclasses.asdict(finding)))
            continue
        out.print(
            Text(f"{finding.health:5}", style=_STYLES[finding.health]),
            Text(f"{finding.what}: {finding.said}"),
        )
        if finding.mend:
            out.print(Text(f"      → {finding.mend}"))
    if any(finding.health is Health.ILL for finding in findings):
        raise typer.Exit(3)
