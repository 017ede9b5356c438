"""``tagmill demo``: all of tagmill at work on pictures that it draws itself, without a network."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tagmill.cli.labelling import Outputs, embedded_settings, held, label, program, say_end
from tagmill.cli.progress import console
from tagmill.cli.schedule import when
from tagmill.cli.train import train_here
from tagmill.cli.trainings import say_training
from tagmill.cron import next_time
from tagmill.drawing import SHAPES, draw_dataset, is_right
from tagmill.embedded import Servers
from tagmill.errors import UnknownSchedule, UsageError
from tagmill.models import resolve
from tagmill.registry import open_registry
from tagmill.run import label_source
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import Selection, open_source, path_of, printable
from tagmill.state_folder import StateFolder
from tagmill.store import Job, Schedule, Store
from tagmill.store.schedules import ScheduleKind
from tagmill.train import dataset_name
from tagmill.training import TrainingRequest
from tagmill.watch import Watcher

MODEL, SCHEDULE = "demo", "demo-nightly"
NIGHTLY, ZONE = "0 2 * * *", "UTC"

FRESH_FROM = 100_000
"""The number of the first picture that is none of those to train on."""

MOST_PICTURES = 30_000


def demo(
    pictures: Annotated[
        int,
        typer.Option(
            "--pictures",
            envvar="TAGMILL_PICTURES",
            min=30,
            max=MOST_PICTURES,
            help="To draw and train on; fewer are quicker, more are learned better.",
        ),
    ] = 300,
    folder: Annotated[
        Path,
        typer.Option("--folder", envvar="TAGMILL_DEMO_FOLDER", help="That holds all of it."),
    ] = Path("tagmill-demo"),
) -> None:
    """See all of it at work: draw, train, promote, label, schedule, report.

    Needs no weights and no network, and two minutes. Run again, it goes on.
    """
    place = folder.expanduser().absolute()
    settings = embedded_settings(
        state_dir=place / "state", models=str(place / "state" / "models"), roots=(place,)
    )
    if _is_begun(place, settings.state_dir):
        console.print(f"going on in {printable(str(folder))}: what is done is kept", markup=False)
    fresh = _draw(folder, settings, pictures // len(SHAPES))
    request = TrainingRequest(
        name=MODEL,
        dataset=dataset_name(str(place / "drawn")),
        from_scratch=True,
        skip_unchanged=True,
    )
    say_training(train_here(settings, request))
    report = folder / "report.html"
    _label(fresh, report, settings)
    with held(settings) as (_, store, _):
        added = _scheduled(store, request)
    console.print(
        f"schedule {SCHEDULE} trains it again when pictures changed, next at "
        f"{when(added.next_at, ZONE)}, once 'tagmill scheduler' and a worker run",
        markup=False,
    )
    state = folder / "state"
    where = f"--state-dir {shlex.quote(str(state))}"
    if os.environ.get("TAGMILL_MODELS"):
        where += f" --models {shlex.quote(str(state / 'models'))}"
    console.print(
        f"look around: {program()} models show {MODEL} {where}\n"
        f"look at: {printable(str(report))}\nremove it all: rm -r {shlex.quote(str(folder))}",
        markup=False,
    )


def _is_begun(place: Path, state: Path) -> bool:
    """True where a demo was begun in a folder.

    Raises:
        UsageError: if somebody has something else there, which is to be removed with nothing.
    """
    is_folder = place.is_dir()
    if is_folder and StateFolder(state).check_format():
        return True
    if (is_folder and _has_others(place, state)) or (place.exists() and not is_folder):
        raise UsageError(f"{place} is there and is no demo's: name another with --folder")
    return False


def _has_others(place: Path, state: Path) -> bool:
    """True where a folder has more than what a demo leaves that ended at its first step."""
    return bool({*place.iterdir()} - {state}) or StateFolder(state).has_others()


def _draw(folder: Path, settings: Settings, count: int) -> Path:
    """Draw what is trained on, and a quarter as many fresh ones: their folder."""
    with held(settings):  # which makes the folder known as a demo's
        drawn = draw_dataset(folder / "drawn", range(count))
        fresh = draw_dataset(folder / "fresh", range(FRESH_FROM, FRESH_FROM + count // 4))
    count, fresh_count = (sum(1 for _ in place.rglob("*.png")) for place in (drawn, fresh))
    console.print(
        f"drawn: {count:,} pictures of {', '.join(SHAPES)} in {printable(str(drawn))}, "
        f"{fresh_count:,} fresh ones in {printable(str(fresh))}",
        markup=False,
    )
    return fresh


def _label(fresh: Path, report: Path, settings: Settings) -> None:
    """Label the fresh pictures, and say how many of them were called what they are."""
    s3 = S3(settings)
    selection = Selection()
    source = open_source(str(fresh), leave_out=settings.state_dir, s3=s3, selection=selection)
    outputs = Outputs([str(report.with_name("labels.csv"))], report, s3=s3, source=str(fresh))
    with held(settings) as (folder, store, view):
        model = resolve(MODEL, registry=open_registry(settings), aliases=store.aliases)

        def work(servers: Servers, watch: Watcher) -> Job:
            return label_source(
                source,
                settings=settings,
                store=store,
                servers=servers,
                model=model,
                top_k=len(SHAPES),
                again=False,
                keep_going=False,
                selection=selection,
                watch=watch,
            )

        labelled = label(
            folder, store, view, settings=settings, model=model, outputs=outputs, work=work
        )
        right = Counter(
            is_right(path_of(result.uri), result.labels[0].name)
            for result in store.outcomes.results(labelled.job.id)
            if result.labels
        )
    say_end(labelled, source.passed_over, outputs, settings)
    console.print(
        f"{model} is right on {right[True]:,} of {right.total():,} fresh pictures "
        f"({right[True] / max(1, right.total()):.0%})",
        markup=False,
    )


def _scheduled(store: Store, request: TrainingRequest) -> Schedule:
    try:
        return store.schedules.get(SCHEDULE)
    except UnknownSchedule:
        return store.schedules.add(
            SCHEDULE,
            cron=NIGHTLY,
            zone=ZONE,
            kind=ScheduleKind.TRAIN,
            request=request.dump(),
            next_at=next_time(NIGHTLY, ZONE, after=store.jobs.now()),
        )
