"""``tagmill schedule``: what is trained or labelled by itself, and when."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from tagmill.cli.labelling import program
from tagmill.cli.opening import settings_of
from tagmill.cli.options import AsJson, Exclude, Include, Models, StateDir, TopK
from tagmill.cli.train import Blocks, MinGain, Seed, StrictDataset, WithCorrections
from tagmill.cli.trainings import outcome_of
from tagmill.client import Client
from tagmill.cron import next_time
from tagmill.errors import UsageError
from tagmill.firing import LabelRequest, fire
from tagmill.registry import BUILT_IN
from tagmill.sources import readable, source_name
from tagmill.store import Schedule, Store
from tagmill.store.schedules import ScheduleKind
from tagmill.train import dataset_name
from tagmill.training import TrainingRequest

app = typer.Typer(help="Train and label by the clock.", no_args_is_help=True)

ScheduleName = Annotated[str, typer.Argument(metavar="NAME", help="Of the schedule.")]
LONGEST_NAME = 64

_OF_OTHERS = {
    "--train": ("model", "top_k", "include", "exclude"),
    "--label": (
        "name", "with_corrections", "fine_tune_blocks", "min_gain", "strict", "seed",
    ),
}  # fmt: skip
"""Parameters that belong to the other kind of schedule."""


@app.command()
def add(
    context: typer.Context,
    schedule: ScheduleName,
    cron: Annotated[
        str,
        typer.Option(
            "--cron",
            envvar="TAGMILL_CRON",
            help="Minute, hour, day, month, weekday: '0 2 * * *' is every night at two.",
        ),
    ],
    zone: Annotated[
        str,
        typer.Option("--zone", envvar="TAGMILL_ZONE", help="By whose clocks, as Europe/Berlin."),
    ] = "UTC",
    dataset: Annotated[
        str | None,
        typer.Option(
            "--train", envvar="TAGMILL_TRAIN", metavar="DATASET", help="Train on that, if changed."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--label", envvar="TAGMILL_LABEL_SOURCE", metavar="SOURCE", help="Label what is new."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", envvar="TAGMILL_NAME", help="Of the model that is trained."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", envvar="TAGMILL_MODEL", help="That labels; its champion then."),
    ] = BUILT_IN,
    top_k: TopK = 5,
    include: Include = None,
    exclude: Exclude = None,
    with_corrections: WithCorrections = False,
    fine_tune_blocks: Blocks = 0,
    min_gain: MinGain = 0.0,
    strict: StrictDataset = False,
    seed: Seed = 0,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Add a schedule, which a scheduler fires: 'tagmill scheduler'."""
    _check_name(schedule)
    if (dataset is None) == (source is None):
        raise UsageError("say what it does: --train DATASET --name NAME, or --label SOURCE")
    _refuse_others(context, "--label" if dataset is None else "--train")
    cron = " ".join(cron.split())
    with _client(context, state_dir, models) as client:
        if dataset is not None:
            if name is None:
                raise UsageError("--train needs the name of a model: --name pets")
            request = TrainingRequest(
                name=name,
                dataset=dataset_name(dataset),
                with_corrections=with_corrections,
                fine_tune_blocks=fine_tune_blocks,
                min_gain=min_gain,
                strict=strict,
                seed=seed,
                skip_unchanged=True,
            ).dump()
        else:
            client.model(model)
            request = LabelRequest(
                source=source_name(source or ""),
                model=model,
                top_k=top_k,
                include=tuple(include or ()),
                exclude=tuple(exclude or ()),
            ).dump()
        added = client.store.schedules.add(
            schedule,
            cron=cron,
            zone=zone,
            kind=ScheduleKind.TRAIN if dataset is not None else ScheduleKind.LABEL,
            request=request,
            next_at=next_time(cron, zone, after=client.store.jobs.now()),
        )
    print(f"{schedule} is due {when(added.next_at, zone)}", file=sys.stderr)


@app.command("list")
def list_schedules(
    context: typer.Context, as_json: AsJson = False, state_dir: StateDir = None
) -> None:
    """List schedules: when they are due, and what came of them last."""
    with _client(context, state_dir) as client:
        found = [(each, _outcome(client.store, each)) for each in client.store.schedules.all()]
    if as_json:
        for schedule, outcome in found:
            row = {**dataclasses.asdict(schedule), "request": json.loads(schedule.request)}
            print(json.dumps({**row, "outcome": outcome}))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("schedule", "cron", "does", "next", "last", "what came of it"):
        table.add_column(column, overflow="fold")
    for schedule, outcome in found:
        due = "paused" if schedule.paused else when(schedule.next_at, schedule.zone)
        last = when(schedule.last_at, schedule.zone) if schedule.last_at else "-"
        table.add_row(schedule.name, schedule.cron, _does(schedule), due, last, outcome)
    out = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    out.print(table)


@app.command()
def remove(context: typer.Context, schedule: ScheduleName, state_dir: StateDir = None) -> None:
    """Remove a schedule; what it made stays."""
    with _client(context, state_dir) as client:
        client.store.schedules.remove(client.store.schedules.get(schedule).name)


@app.command("run")
def run_now(
    context: typer.Context,
    schedule: ScheduleName,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Fire a schedule now, whenever it is due."""
    with _client(context, state_dir, models) as client:
        client.broker.check()
        store = client.store
        due = store.schedules.get(schedule)
        if due.paused:
            raise UsageError(f"{schedule} is paused: {program()} schedule resume {schedule}")
        message = fire(store, due, lambda text: str(client.model(text)), now=store.jobs.now())
        if message is None:
            why = store.schedules.get(schedule).last_said or "it fired just now"
            raise UsageError(f"{schedule}: {why}")
        client.broker.send([message])
        made = store.schedules.get(schedule).last_id
    print(made)
    print(f"watch it: {program()} watch {made}", file=sys.stderr)


@app.command()
def pause(context: typer.Context, schedule: ScheduleName, state_dir: StateDir = None) -> None:
    """Let a schedule not fire."""
    with _client(context, state_dir) as client:
        found = client.store.schedules.get(schedule)
        client.store.schedules.set_paused(schedule, True, next_at=found.next_at)


@app.command()
def resume(context: typer.Context, schedule: ScheduleName, state_dir: StateDir = None) -> None:
    """Let a paused schedule fire again, from its next time on."""
    with _client(context, state_dir) as client:
        found = client.store.schedules.get(schedule)
        due = next_time(found.cron, found.zone, after=client.store.jobs.now())
        client.store.schedules.set_paused(schedule, False, next_at=due)
    print(f"{schedule} is due {when(due, found.zone)}", file=sys.stderr)


@contextmanager
def _client(context: typer.Context, state_dir: StateDir, models: Models = None) -> Iterator[Client]:
    with Client(settings_of(context, state_dir, models=models)) as client:
        yield client


def _refuse_others(context: typer.Context, kind: str) -> None:
    """Refuse options that say nothing of what it does: whoever typed them meant something."""
    for name in _OF_OTHERS[kind]:
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')} does not go with {kind}")


def _check_name(name: str) -> None:
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise UsageError(
            f"{name!r:.100} is no name of a schedule: up to {LONGEST_NAME} characters that print"
        )


def when(at: float, zone: str) -> str:
    """A time by the clocks of a zone."""
    return f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%d %H:%M} {zone}"


def _does(schedule: Schedule) -> str:
    if schedule.kind is ScheduleKind.TRAIN:
        asked = TrainingRequest.load(schedule.request)
        return f"train {asked.name} on {readable(asked.dataset)}"
    label = LabelRequest.load(schedule.request)
    return f"label {readable(label.source)} with {label.model}"


def _outcome(store: Store, schedule: Schedule) -> str:
    """What came of a schedule when it fired last."""
    if schedule.last_said or schedule.last_id is None:
        return schedule.last_said or "-"
    if schedule.kind is ScheduleKind.TRAIN:
        training = store.trainings.get(schedule.last_id)
        said = f": {training.said}" if training.said else ""
        return f"{training.id} {outcome_of(training)}{said}"
    job = store.jobs.get(schedule.last_id)
    return f"{job.id} {job.state}: {job.ok:,} labelled, {job.failed:,} failed"
