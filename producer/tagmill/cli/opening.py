"""What commands open before their work: the settings that are meant, and the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from tagmill.client import Client
from tagmill.errors import UnknownJob
from tagmill.settings import Settings, load_settings
from tagmill.state_folder import StateFolder


def settings_of(context: typer.Context, state_dir: Path | None, **options: object) -> Settings:
    """A state folder that is named on the command line has the store, whatever else is set."""
    settings = load_settings(state_dir=state_dir, **options)
    if names_state_dir(context):
        settings = settings.model_copy(update={"store_url": None})
    return settings


def names_state_dir(context: typer.Context) -> bool:
    """True where the state folder is named on the command line."""
    source = context.get_parameter_source("state_dir")
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def existing(settings: Settings) -> Iterator[Client]:
    """A client of the store that TAGMILL_STORE_URL names, else of the state folder's.

    Raises:
        UnknownJob: if there is no such store yet.
    """
    is_there = StateFolder(settings.state_dir).check_format()
    file = settings.state_dir / "tagmill.db"
    if settings.store_url is None and not is_there and not file.exists():
        raise UnknownJob(f"no jobs yet: there is no store in {settings.state_dir}")
    with Client(settings) as client:
        yield client
