"""``tagmill status``, ``results`` and ``cancel``: what was asked for and what came of it."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from tagmill.cli.options import AsJson, Out, StateDir
from tagmill.contract import Status
from tagmill.errors import UnknownJob, UsageError
from tagmill.export import WRITERS, check_results_file, export
from tagmill.s3 import S3
from tagmill.settings import Settings, load_settings
from tagmill.sources import printable, readable
from tagmill.state_folder import StateFolder
from tagmill.store import Job, Result, Store

JobId = Annotated[
    str | None,
    typer.Argument(
        metavar="JOB", help="Its id, or how that begins; the newest where none is named."
    ),
]


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
    settings = _settings(context, state_dir)
    store = _existing_store(settings)
    jobs = [store.jobs.get(job_id)] if job_id else store.jobs.recent()
    at_work = settings.store_url is not None or StateFolder(settings.state_dir).is_held()
    if as_json:
        for job in jobs:
            row = {**dataclasses.asdict(job), "open": job.open, "state": _state(job, at_work)}
            if job_id:
                row["failures"] = {str(k): v for k, v in store.outcomes.failures(job.id).items()}
            print(json.dumps(row))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("job", "state", "labelled", "failed", "before", "open", "source"):
        right = name in ("labelled", "failed", "before", "open")
        overflow: OverflowMethod = "fold" if name == "source" else "ellipsis"
        table.add_column(name, justify="right" if right else "left", overflow=overflow)
    for job in jobs:
        numbers = [f"{n:,}" for n in (job.ok, job.failed, job.skipped, job.open)]
        table.add_row(job.id, _state(job, at_work), *numbers, Text(readable(job.source)))
    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    out.print(table)
    if job_id:
        for code, count in store.outcomes.failures(jobs[0].id).items():
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
    state_dir: StateDir = None,
) -> None:
    """Write the results of a job, one row per image."""
    outputs = out or []
    settings = _settings(context, state_dir)
    s3 = S3(settings)
    for path in outputs:
        check_results_file(path, s3=s3)
    store = _existing_store(settings)
    job = store.jobs.get(job_id) if job_id else _newest(store)
    for path in outputs:
        export(_only(store.outcomes.results(job.id), only), path, job=job.id, s3=s3)
        print(f"wrote {printable(path)}", file=sys.stderr)
    if outputs:
        return
    try:
        WRITERS[kind](_only(store.outcomes.results(job.id), only), sys.stdout.buffer)
    except BrokenPipeError as error:
        raise typer.Exit from error  # Typer would make it an error; `main` sees the rest off


def cancel(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="Its id, or how that begins.")],
    state_dir: StateDir = None,
) -> None:
    """End a job; what it has labelled stays."""
    store = _existing_store(_settings(context, state_dir))
    job = store.jobs.get(job_id)
    if not store.jobs.cancel(job.id):
        raise UsageError(f"job {job.id} is {job.state} already")
    print(f"job {job.id} cancelled; what it has labelled stays", file=sys.stderr)


def _existing_store(settings: Settings) -> Store:
    """The store that TAGMILL_STORE_URL names, else the state folder's."""
    is_there = StateFolder(settings.state_dir).check_format()
    if settings.store_url is None and not is_there:
        raise UnknownJob(f"no jobs yet: there is no store in {settings.state_dir}")
    store = Store(settings.store_address)
    store.prepare()
    return store


def _settings(context: typer.Context, state_dir: Path | None) -> Settings:
    """A state folder that is named on the command line is meant, whatever the environment says."""
    settings = load_settings(state_dir=state_dir)
    if _named_by_hand(context, "state_dir"):
        settings = settings.model_copy(update={"store_url": None})
    return settings


def _state(job: Job, at_work: bool) -> str:
    """The job's state; one that is unfinished while no run can be at work was interrupted."""
    return str(job.state) if at_work or job.state.is_finished else "interrupted"


def _named_by_hand(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _newest(store: Store) -> Job:
    recent = store.jobs.recent(1)
    if not recent:
        raise UnknownJob(f"no jobs yet in {store.database.name}")
    return recent[0]


def _only(results: Iterator[Result], status: Status | None) -> Iterator[Result]:
    return (result for result in results if status is None or result.status is status)
