"""What commands open before their work: the settings that are meant, and the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import typer

from tagmill.client import Client
from tagmill.errors import StoreError, UnknownJob
from tagmill.models import resolve
from tagmill.registry import BUILT_IN, SMALL, ModelVersion, open_registry
from tagmill.settings import Settings, load_settings
from tagmill.state_folder import StateFolder
from tagmill.store import Store


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


def version_meant(settings: Settings, text: str) -> ModelVersion:
    """The version that ``name``, ``name@alias`` or ``name@version`` means.

    Args:
        settings: with the registry, and with the store whose aliases count.
        text: what a user wrote.

    Raises:
        UnknownModel: if there is no such.
        StoreError: if the store is away, unless it need not be asked.
    """
    name, _, which = text.partition("@")
    if which.isdecimal() or name in (BUILT_IN, SMALL):
        return open_registry(settings).resolve(text)
    try:
        with store_if_any(settings) as store:
            return resolve(text, registry=open_registry(settings), aliases=store.aliases)
    except StoreError as error:
        raise type(error)(f"{error}; {name}@NUMBER does without it") from error


@contextmanager
def store_if_any(settings: Settings) -> Iterator[Store]:
    """The store to look things up in; where there is none yet, an empty one that nobody keeps."""
    with closing(_found(settings) or Store("sqlite://")) as store:
        store.prepare()
        yield store


def _found(settings: Settings) -> Store | None:
    """A store in which something is: whoever only looks makes none."""
    if not _is_there(settings):
        return None
    store = Store(settings.store_address)
    path = store.database.engine.url.database
    is_missing = not store.database.is_shared and path and not os.path.exists(path)
    if is_missing or store.database.revision() is None:
        store.close()
        return None
    return store


@contextmanager
def existing(settings: Settings) -> Iterator[Client]:
    """A client of the store that TAGMILL_STORE_URL names, else of the state folder's.

    Raises:
        UnknownJob: if there is no such store yet.
    """
    if not _is_there(settings):
        raise UnknownJob(f"no jobs yet: there is no store in {settings.state_dir}")
    with Client(settings) as client:
        yield client


def is_at_work(client: Client) -> bool:
    """True where somebody may be at work on what a store has: its lanes, or who holds it."""
    settings = client.settings
    held = StateFolder(settings.state_dir).is_held()
    return held or settings.store_url is not None or bool(client.workers())


def _is_there(settings: Settings) -> bool:
    is_held = StateFolder(settings.state_dir).check_format()
    return settings.store_url is not None or is_held or (settings.state_dir / "tagmill.db").exists()
