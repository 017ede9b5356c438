"""``tagmill worker``: lanes of this machine for a cluster."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from tagmill.cli.opening import settings_of, version_meant
from tagmill.cli.options import Models, StateDir
from tagmill.contract import LABEL_QUEUE
from tagmill.embedded.worker import build_model, worker_environment
from tagmill.errors import BrokerError
from tagmill.registry import BUILT_IN, open_registry
from tagmill.settings import Settings
from tagmill.state_folder import StateFolder
from tagmill.store import Store


def worker(
    context: typer.Context,
    queues: Annotated[
        str,
        typer.Option("--queues", envvar="TAGMILL_QUEUES", help="label, train, or label,train."),
    ] = LABEL_QUEUE,
    gpus: Annotated[
        str,
        typer.Option(
            "--gpus", envvar="TAGMILL_GPUS", help="auto, all, none, or numbers and UUIDs: 0,2."
        ),
    ] = "auto",
    lanes_per_gpu: Annotated[
        int,
        typer.Option(
            "--lanes-per-gpu",
            envvar="TAGMILL_LANES_PER_GPU",
            min=1,
            max=64,
            help="Lanes that share a GPU.",
        ),
    ] = 2,
    lanes: Annotated[
        int | None,
        typer.Option(
            "--lanes", envvar="TAGMILL_LANES", min=1, help="CPU lanes; else one per core."
        ),
    ] = None,
    roots: Annotated[
        list[Path] | None,
        typer.Option(
            "--root",
            envvar="TAGMILL_ROOTS",
            help="Read local files under this folder; repeatable; else none.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", envvar="TAGMILL_MODEL", help="What lanes load first.")
    ] = BUILT_IN,
    check: Annotated[
        Literal["ready", "alive"] | None,
        typer.Option(
            "--check",
            envvar="TAGMILL_CHECK",
            help="Ask after the lanes that run here, for probes: exit 0, or 3.",
        ),
    ] = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Run this machine's lanes for a cluster: one per core, or some per GPU."""
    settings = settings_of(
        context, state_dir, models=models, lanes=lanes, roots=tuple(roots) if roots else None
    )
    if check is not None:
        _become(settings, "check", check)
    from tagmill.broker import Broker  # Celery takes a moment to load, and probes come often

    if not settings.broker_url:
        raise BrokerError("no broker: set TAGMILL_BROKER_URL, as redis://host:6379/0")
    if not settings.store_url:
        print(
            f"tagmill: TAGMILL_STORE_URL is not set: the store is {settings.store_address}, "
            "which serves one machine only",
            file=sys.stderr,
        )
    folder = StateFolder(settings.state_dir)
    folder.path.mkdir(parents=True, exist_ok=True)
    with closing(Broker(settings)) as broker:
        try:
            broker.check()
        except BrokerError as error:  # it may come up yet
            print(f"tagmill: {error}; waiting for it", file=sys.stderr)
    with closing(Store(settings.store_address)) as store:
        store.prepare()
    words = ["--queues", queues, "--gpus", gpus, "--lanes-per-gpu", str(lanes_per_gpu)]
    registry = open_registry(settings)
    if LABEL_QUEUE in queues:
        version = version_meant(settings, model)
        if not registry.holds(version):
            build_model(settings, folder, version)
        words += ["--warm-up", str(version)]
    _become(settings, "worker", *words)


def _become(settings: Settings, *words: str) -> None:
    """Turn into a process of the heavy side: signals and exit code are its own then."""
    environment = dict(worker_environment(settings))
    if settings.lanes is not None:
        environment["TAGMILL_LANES"] = str(settings.lanes)
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "tagmill_worker", *words]
    os.execve(sys.executable, command, environment)  # noqa: S606  # we wrote the words
