"""``tagmill status``, ``results``, ``pause``, ``resume``, ``cancel``: what became of jobs."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from tagmill.cli.labelling import program
from tagmill.cli.opening import existing, is_at_work, settings_of
from tagmill.cli.options import AsJson, Out, StateDir
from tagmill.cli.trainings import (
    INTERRUPTED,
    is_training,
    show_training,
    show_trainings,
    training_row,
)
from tagmill.contract import Status
from tagmill.errors import UsageError
from tagmill.export import WRITERS, check_results_file, export
from tagmill.s3 import S3
from tagmill.sources import printable, readable
from tagmill.store import Job, Result

JobId = Annotated[
    str | None,
    typer.Argument(
        metavar="JOB", help="Its id, or how that begins; the newest where none is named."
    ),
]
NamedJob = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or how that begins.")]


class Format(enum.StrEnum):
    """What stdout can take."""

    JSONL = "jsonl"
    CSV = "csv"


def status(
    context: typer.Context,
    job_id: JobId = None,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Show jobs and how far they are."""
    settings = settings_of(context, state_dir)
    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    with existing(settings) as client:
        at_work = is_at_work(client)
        if job_id and is_training(job_id):
            training = client.store.trainings.get(job_id)
            show_training(training, at_work=at_work, as_json=as_json, out=out)
            return
        jobs = [client.job(job_id)] if job_id else client.jobs()
        trainings = [] if job_id else client.store.trainings.recent()
        failures = client.store.outcomes.failures(jobs[0].id) if job_id else {}
    if as_json:
        for job in jobs:
            row = {**dataclasses.asdict(job), "open": job.open, "state": _state(job, at_work)}
            if job_id:
                row["failures"] = {str(code): count for code, count in failures.items()}
            print(json.dumps(row))
        for training in trainings:
            print(json.dumps(training_row(training, at_work=at_work)))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("job", "state", "labelled", "failed", "before", "open", "source"):
        right = name in ("labelled", "failed", "before", "open")
        overflow: OverflowMethod = "fold" if name == "source" else "ellipsis"
        table.add_column(name, justify="right" if right else "left", overflow=overflow)
    for job in jobs:
        numbers = [f"{n:,}" for n in (job.ok, job.failed, job.skipped, job.open)]
        table.add_row(job.id, _state(job, at_work), *numbers, Text(readable(job.source)))
    if jobs or not trainings:
        out.print(table)
    show_trainings(trainings, out, at_work=at_work)
    if job_id:
        if jobs[0].paused:
            out.print(f"paused: {jobs[0].paused}", markup=False)
        for code, count in failures.items():
            out.print(f"{count:,} × {code}", markup=False)


def results(
    context: typer.Context,
    job_id: JobId = None,
    out: Out = None,
    kind: Annotated[
        Format, typer.Option("--format", envvar="TAGMILL_FORMAT", help="Of what goes to stdout.")
    ] = Format.JSONL,
    only: Annotated[
        Status | None,
        typer.Option("--status", envvar="TAGMILL_STATUS", help="Only items that ended so."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", envvar="TAGMILL_SOURCE", help="Of the newest job of that source."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", envvar="TAGMILL_MODEL", help="Of the newest job by what it means."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", envvar="TAGMILL_LABEL", help="Only items with it, name or id."),
    ] = None,
    min_score: Annotated[
        float,
        typer.Option(
            "--min-score",
            envvar="TAGMILL_MIN_SCORE",
            min=0.0,
            max=1.0,
            help="Only items whose best label, or --label, has it.",
        ),
    ] = 0.0,
    state_dir: StateDir = None,
) -> None:
    """Write the results of a job, one row per image."""
    outputs = out or []
    settings = settings_of(context, state_dir)
    s3 = S3(settings)
    for path in outputs:
        check_results_file(path, s3=s3)
    if job_id and (source or model):
        raise UsageError("name a job, or a source and a model, not both")
    with existing(settings) as client:
        job = client.job(job_id) if job_id else client.newest(source, model=model)

        def found() -> Iterator[Result]:
            return client.results(job.id, status=only, label=label, min_score=min_score)

        for path in outputs:
            export(found(), path, job=job.id, s3=s3)
            print(f"wrote {printable(path)}", file=sys.stderr)
        if outputs:
            return
        try:
            WRITERS[kind](found(), sys.stdout.buffer)
        except BrokenPipeError as error:
            raise typer.Exit from error  # Typer would make it an error; `main` sees the rest off


def cancel(
    context: typer.Context,
    job_id: NamedJob,
    state_dir: StateDir = None,
) -> None:
    """End a job, whose labels stay, or a training."""
    with existing(settings_of(context, state_dir)) as client:
        if is_training(job_id):
            training = client.cancel_training(job_id)
            print(f"training {training.id} cancelled", file=sys.stderr)
            return
        job = client.cancel(job_id)
    print(f"job {job.id} cancelled; what it has labelled stays", file=sys.stderr)


def pause(
    context: typer.Context,
    job_id: NamedJob,
    state_dir: StateDir = None,
) -> None:
    """Let no lane take a job's chunks; those in hand are finished."""
    with existing(settings_of(context, state_dir)) as client:
        job = client.pause(job_id)
    print(f"job {job.id} is paused: {job.open:,} images wait", file=sys.stderr)


def resume(
    context: typer.Context,
    job_id: NamedJob,
    state_dir: StateDir = None,
) -> None:
    """Let lanes take a paused job's chunks again."""
    with existing(settings_of(context, state_dir)) as client:
        job = client.resume(job_id)
    print(f"job {job.id} goes on: {job.open:,} images wait", file=sys.stderr)
    if job.failed:
        print(f"{job.failed:,} failed: {program()} retry {job.id}", file=sys.stderr)


def _state(job: Job, at_work: bool) -> str:
    """The job's state as people see it.

    One that is unfinished while nobody can be at work on it was interrupted.
    """
    if job.paused and not job.state.is_finished:
        return "paused"
    return str(job.state) if at_work or job.state.is_finished else INTERRUPTED
