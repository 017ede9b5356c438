"""``tagmill corrections``: what images show, said by hand, for the next training to learn."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from typing import Annotated

import typer

from tagmill.cli.labelling import program
from tagmill.cli.opening import names_state_dir, settings_of, version_meant
from tagmill.cli.options import AsJson, Models, StateDir
from tagmill.client import Client
from tagmill.errors import SourceError, UnknownModel
from tagmill.registry import open_registry
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import open_source, readable, source_name
from tagmill.training import CORRECTIONS, clean_label

app = typer.Typer(help="Say what images show, for a training to learn.", no_args_is_help=True)

ModelName = Annotated[
    str, typer.Option("--name", envvar="TAGMILL_NAME", help="Of the model that is to learn it.")
]


@app.command()
def add(
    context: typer.Context,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="What they show.")],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Files, folders, globs or s3://bucket/key."),
    ],
    name: ModelName,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Say what images show; what was said of them before is replaced."""
    settings = settings_of(context, state_dir, models=models)
    label = clean_label(label)
    s3 = S3(settings)
    uris = [
        uri
        for image in images
        for uri, _ in open_source(image, leave_out=settings.state_dir, s3=s3).items()
    ]
    if not uris:
        raise SourceError(f"no image in {', '.join(images)!s:.200}")
    with Client(settings) as client:
        count = client.store.corrections.add(name, label, uris)
    print(f"{count:,} images show {label}", file=sys.stderr)
    _say_new(settings, name, label)
    where = " --enqueue" if settings.store_url else ""
    if names_state_dir(context):
        where = f" --state-dir {shlex.quote(str(settings.state_dir))}"
    print(f"learn it: {program()} train {CORRECTIONS} --name {name}{where}", file=sys.stderr)


@app.command("list")
def list_corrections(
    context: typer.Context, name: ModelName, as_json: AsJson = False, state_dir: StateDir = None
) -> None:
    """List what was said, by image."""
    with Client(settings_of(context, state_dir)) as client:
        found = client.store.corrections.all(name)
    for one in found:
        if as_json:
            print(json.dumps(dataclasses.asdict(one)))
        else:
            print(f"{one.label}  {readable(one.uri)}")


@app.command()
def remove(
    context: typer.Context,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="As 'corrections list' shows them.")
    ],
    name: ModelName,
    state_dir: StateDir = None,
) -> None:
    """Forget what was said of images, which need not be there any more."""
    with Client(settings_of(context, state_dir)) as client:
        count = client.store.corrections.remove(name, map(source_name, images))
    print(f"{count:,} corrections of {name} removed", file=sys.stderr)


def _say_new(settings: Settings, name: str, label: str) -> None:
    """A label that no class has is a new class, or misspelt."""
    try:
        version = version_meant(settings, name)
    except UnknownModel:
        return
    if all(label not in names for names in open_registry(settings).labels(version)):
        print(f"{label} is no class of {version}: it is a new one, or misspelt", file=sys.stderr)
