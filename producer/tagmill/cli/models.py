"""``tagmill models``: what is in the registry."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from tagmill.cli.options import AsJson, Models, StateDir
from tagmill.embedded import build_model
from tagmill.registry import BUILT_IN, open_registry
from tagmill.settings import Settings, load_settings
from tagmill.sources import printable
from tagmill.state_folder import StateFolder

app = typer.Typer(help="List, show and fetch model versions.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name or name@version.")]


@app.command("list")
def list_versions(
    as_json: AsJson = False, models: Models = None, state_dir: StateDir = None
) -> None:
    """List the versions in the registry."""
    registry = open_registry(_settings(models, state_dir))
    versions = registry.versions()
    if as_json:
        for version in versions:
            print(json.dumps({"model": str(version), "path": registry.where(version)}))
        return
    for version in versions:
        card = registry.card(version)
        print(f"{version}  {card.classes} classes, {card.input_size} px, {card.geometry}")
    if not any(version.name == BUILT_IN for version in versions):
        print(f"{BUILT_IN}@1  not built yet: 'tagmill run' or 'tagmill models pull' builds it")


@app.command()
def show(
    model: Name, as_json: AsJson = False, models: Models = None, state_dir: StateDir = None
) -> None:
    """Show the card of a version."""
    registry = open_registry(_settings(models, state_dir))
    version = registry.resolve(model)
    card = registry.card(version)
    row = {
        "model": str(version),
        "path": registry.where(version),
        "input_size": card.input_size,
        "geometry": card.geometry,
        "resize_ratio": card.resize_ratio,
        "classes": card.classes,
        **{name: value for name, value in card.about.items() if name not in ("name", "version")},
        "files": card.files,
    }
    if as_json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        shown = ", ".join(value) if isinstance(value, dict) else value
        print(f"{printable(name):16}{printable(str(shown))}")


@app.command()
def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name or name@version.")] = BUILT_IN,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Make sure that a version is here, whole and unharmed; build the built-in one."""
    settings = _settings(models, state_dir)
    registry = open_registry(settings)
    version = registry.resolve(model)
    if not registry.holds(version):
        print(f"building {version}", file=sys.stderr)
        build_model(settings, StateFolder(settings.state_dir), version)
    for name in registry.card(version).files:
        registry.verified_file(version, name)
    print(registry.path(version))


def _settings(models: Models, state_dir: StateDir) -> Settings:
    return load_settings(models=models, state_dir=state_dir)
