"""``tagmill models``: what is in the registry, and which of it is meant."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tagmill.cli.cards import about, accuracy, flat, width
from tagmill.cli.opening import settings_of, version_meant
from tagmill.cli.options import AsJson, Models, StateDir
from tagmill.client import Client
from tagmill.copying import export_version
from tagmill.embedded import build_model, import_model
from tagmill.errors import ModelUnavailable, UsageError
from tagmill.registry import (
    BUILT_IN,
    GEOMETRIES,
    Card,
    ModelVersion,
    Registry,
    open_registry,
)
from tagmill.sources import printable
from tagmill.state_folder import StateFolder
from tagmill.training import CHAMPION, check_model_name, check_own_name

app = typer.Typer(
    help="List, show, compare, fetch and promote model versions.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@version or name@champion.")]
BareName = Annotated[str, typer.Argument(metavar="NAME", help="Of the model, without a version.")]


@app.command("list")
def list_versions(
    context: typer.Context,
    as_json: AsJson = False,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """List the versions in the registry."""
    settings = settings_of(context, state_dir, models=models)
    registry = open_registry(settings)
    versions = registry.versions()
    with Client(settings) as client:
        meant = client.store.aliases.all()
    for version in versions:
        key = (version.name, version.number)
        aliases = [alias for (name, alias), number in meant.items() if (name, number) == key]
        if as_json:
            row = {"model": str(version), "path": registry.where(version), "aliases": aliases}
            print(json.dumps(row))
            continue
        try:
            card = registry.card(version)
        except ModelUnavailable as error:  # others may be well
            print(f"{version}  {printable(str(error))}")
            continue
        marks = "".join(f", {alias}" for alias in aliases)
        told = f"{card.classes} classes, {card.input_size} px, {card.geometry}{accuracy(card)}"
        print(f"{version}  {told}{marks}")
    if not as_json and not any(version.name == BUILT_IN for version in versions):
        print(f"{BUILT_IN}@1  not built yet: 'tagmill run' or 'tagmill models pull' builds it")


@app.command()
def show(
    context: typer.Context,
    model: Name,
    as_json: AsJson = False,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Show the card of a version, its metrics too."""
    settings = settings_of(context, state_dir, models=models)
    registry = open_registry(settings)
    version = version_meant(settings, model)
    row = about(registry, version)
    if as_json:
        print(json.dumps(row))
        return
    found = dict(flat({**row, "files": ", ".join(row["files"])}))
    for name, value in found.items():
        print(f"{printable(name):{width(found)}} {printable(value)}")


@app.command()
def diff(
    context: typer.Context,
    one: Annotated[str, typer.Argument(metavar="MODEL", help="As name@version.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="As name@version.")],
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Show where two versions differ: classes, metrics, parameters."""
    settings = settings_of(context, state_dir, models=models)
    registry = open_registry(settings)
    versions = [version_meant(settings, text) for text in (one, other)]
    before, after = (
        dict(flat({**about(registry, version), "files": None})) for version in versions
    )
    differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    for name in differing:
        was, now = before.get(name, "-"), after.get(name, "-")
        print(f"{printable(name):{width(differing)}} {printable(was)} → {printable(now)}")
    left, right = (dict(registry.labels(version)) for version in versions)
    for sign, found in (("-", left.keys() - right), ("+", right.keys() - left)):
        for label in sorted(found):
            print(f"{sign} {printable(label)}")


@app.command()
def pull(
    context: typer.Context,
    model: Name = BUILT_IN,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Make sure that a version is here, whole and unharmed; build the built-in one."""
    settings = settings_of(context, state_dir, models=models)
    registry = open_registry(settings)
    version = version_meant(settings, model)
    if not registry.holds(version):
        print(f"building {version}", file=sys.stderr)
        build_model(settings, StateFolder(settings.state_dir), version)
    for name in registry.card(version).files:
        registry.verified_file(version, name)
    print(registry.path(version))


@app.command("import")
def import_version(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A classifier of Keras': .keras or .h5.")
    ],
    name: Annotated[
        str,
        typer.Option("--name", envvar="TAGMILL_NAME", help="Of the model it becomes a version of."),
    ],
    labels: Annotated[
        Path,
        typer.Option(
            "--labels", envvar="TAGMILL_LABELS", help="Its classes in order: .txt, .csv or .json."
        ),
    ],
    size: Annotated[
        int | None,
        typer.Option("--input-size", envvar="TAGMILL_INPUT_SIZE", help="Pixels; else its own."),
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(
            "--scaling", envvar="TAGMILL_SCALING", help="inside, -1..1 or 0..1; else detected."
        ),
    ] = None,
    geometry: Annotated[
        str,
        typer.Option(
            "--geometry", envvar="TAGMILL_GEOMETRY", help="center_crop or squash, as in training."
        ),
    ] = GEOMETRIES[0],
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Make a version of a classifier that somebody else trained."""
    check_own_name(name)
    for path in (file, labels):
        if not path.is_file():
            raise UsageError(f"{path} is no file")
    settings = settings_of(context, state_dir, models=models)
    words = [os.path.abspath(file), "--name", name, "--labels", os.path.abspath(labels)]
    words += ["--geometry", geometry]
    words += [f"--size={size}"] if size is not None else []
    words += [f"--scaling={scaling}"] if scaling is not None else []
    print(import_model(settings, StateFolder(settings.state_dir), words))


@app.command()
def export(
    context: typer.Context,
    model: Name,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A registry, which need not be there yet.")
    ],
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Copy a version, verified, into another folder, which is a registry then."""
    settings = settings_of(context, state_dir, models=models)
    version = version_meant(settings, model)
    print(export_version(open_registry(settings), version, folder))


@app.command()
def promote(
    context: typer.Context,
    model: Name,
    force: Annotated[
        bool,
        typer.Option(
            "--force", envvar="TAGMILL_FORCE", help="Though it failed its probe in a lane."
        ),
    ] = False,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Make a version the champion, which its model's name means from the next job on."""
    settings = settings_of(context, state_dir, models=models)
    registry = open_registry(settings)
    name, _, which = model.partition("@")
    if which and not which.isdecimal():
        raise UsageError(f"{model:.80} is an alias: say which version it is to be, as {name:.64}@7")
    version = registry.resolve(model)
    check_own_name(version.name)
    card = _sound(registry, version)
    if card.failed_probe and not force:
        raise UsageError(f"{version} failed its probe in a lane: look at its card, or say --force")
    with Client(settings) as client:
        before = client.store.aliases.move(version.name, version.number, why="by hand")
    _say_moved(version.name, before, version.number)


@app.command()
def rollback(
    context: typer.Context, name: BareName, models: Models = None, state_dir: StateDir = None
) -> None:
    """Make the champion before this one the champion again."""
    check_model_name(name)
    settings = settings_of(context, state_dir, models=models)
    registry = open_registry(settings)

    def check(number: int) -> None:
        version = ModelVersion(name=name, number=number)
        if not registry.holds(version):
            raise UsageError(
                f"{version}, the champion before, is gone from {registry.place}: "
                f"'tagmill models promote {name}@NUMBER' makes another one it"
            )
        _sound(registry, version)

    with Client(settings) as client:
        before, now = client.store.aliases.rollback(name, check=check)
    _say_moved(name, before, now)


def _sound(registry: Registry, version: ModelVersion) -> Card:
    """The card of a version, whose files are what it says.

    Raises:
        ModelUnavailable: if they are not.
    """
    card = registry.card(version)
    for file in card.files:
        registry.verified_file(version, file)
    return card


def _say_moved(name: str, before: int | None, now: int) -> None:
    was = f", it was {name}@{before}" if before else ""
    print(f"{name}@{CHAMPION} is {name}@{now}{was}", file=sys.stderr)
