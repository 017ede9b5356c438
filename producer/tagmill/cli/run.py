"""``tagmill run`` and ``tagmill retry``: the commands that label on this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tagmill.cli.labelling import Outputs, embedded_settings, held, label, say_end
from tagmill.cli.options import Models, Out, StateDir
from tagmill.embedded import Servers
from tagmill.enqueue import plan
from tagmill.errors import SourceError
from tagmill.registry import BUILT_IN, ModelVersion, Registry
from tagmill.run import (
    Watcher,
    label_source,
    nothing_found,
    require_images,
    retry_failed,
    with_roots,
)
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import Source, open_source, readable
from tagmill.state_folder import StateFolder
from tagmill.store import Job, Store

Report = Annotated[
    Path, typer.Option("--report", envvar="TAGMILL_REPORT", help="Where the report goes.")
]
NoReport = Annotated[
    bool, typer.Option("--no-report", envvar="TAGMILL_NO_REPORT", help="Write no report.")
]
Lanes = Annotated[
    int | None,
    typer.Option(
        "--lanes", envvar="TAGMILL_LANES", min=1, help="Lanes at work; else one per core."
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", envvar="TAGMILL_STRICT", help="Exit with 1 if items failed.")
]
Roots = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        envvar="TAGMILL_ROOTS",
        help="Read files under this folder only; repeatable; else the source's.",
    ),
]


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder, file, glob, manifest or s3://bucket/prefix."
        ),
    ],
    out: Out = None,
    model: Annotated[
        str, typer.Option("--model", envvar="TAGMILL_MODEL", help="Name or name@version.")
    ] = BUILT_IN,
    top_k: Annotated[
        int,
        typer.Option("--top-k", envvar="TAGMILL_TOP_K", min=1, max=100, help="Labels per image."),
    ] = 5,
    again: Annotated[
        bool, typer.Option("--again", envvar="TAGMILL_AGAIN", help="Label all, known or not.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", envvar="TAGMILL_DRY_RUN", help="Say what would be done."),
    ] = False,
    report: Report = Path("report.html"),
    no_report: NoReport = False,
    strict: Strict = False,
    lanes: Lanes = None,
    roots: Roots = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Label a source on this machine: all that is new or changed in it."""
    settings = embedded_settings(
        state_dir=state_dir, models=models, lanes=lanes, roots=tuple(roots) if roots else None
    )
    s3 = S3(settings)
    opened = open_source(source, leave_out=settings.state_dir, s3=s3)
    settings = with_roots(settings, opened.name)
    version = Registry(settings.models_dir).resolve(model)
    if dry_run:
        _say_plan(opened, settings=settings, model=version, top_k=top_k, again=again)
        return
    outputs = Outputs(out or [], None if no_report else report, s3=s3, source=source)
    with held(settings) as (folder, store, view):
        if not Registry(settings.models_dir).holds(version):
            require_images(opened)

        def work(servers: Servers, watch: Watcher) -> Job:
            return label_source(
                opened,
                settings=settings,
                store=store,
                servers=servers,
                model=version,
                top_k=top_k,
                again=again,
                watch=watch,
            )

        labelled = label(
            folder, store, view, settings=settings, model=version, outputs=outputs, work=work
        )
    say_end(labelled, opened.passed_over, outputs, settings)
    if strict and labelled.failed:
        raise typer.Exit(1)


def retry(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="Its id, or how that begins.")],
    out: Out = None,
    report: Report = Path("report.html"),
    no_report: NoReport = False,
    strict: Strict = False,
    lanes: Lanes = None,
    roots: Roots = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Label the failed items of a job once more."""
    settings = embedded_settings(
        state_dir=state_dir, models=models, lanes=lanes, roots=tuple(roots) if roots else None
    )
    outputs = Outputs(out or [], None if no_report else report, s3=S3(settings))
    with held(settings) as (folder, store, view):
        job = store.jobs.get(job_id)
        settings = with_roots(settings, job.source)
        version = Registry(settings.models_dir).resolve(job.model)

        def work(servers: Servers, watch: Watcher) -> Job:
            return retry_failed(job, settings=settings, store=store, servers=servers, watch=watch)

        labelled = label(
            folder, store, view, settings=settings, model=version, outputs=outputs, work=work
        )
    say_end(labelled, Counter(), outputs, settings)
    if strict and labelled.failed:
        raise typer.Exit(1)


def _say_plan(
    source: Source, *, settings: Settings, model: ModelVersion, top_k: int, again: bool
) -> None:
    exists = StateFolder(settings.state_dir).check_format()
    store = Store(settings.store_address if exists else "sqlite://")  # without a folder: in memory
    store.prepare()
    since = float("inf") if again else 0.0
    found = plan(source.items(), store=store, model=str(model), top_k=top_k, fresh_since=since)
    if not found.listed:
        raise SourceError(nothing_found(source))
    print(
        f"{found.listed:,} images in {readable(source.name)}\n"
        f"{found.fresh:,} to label with {model} ({found.fresh_bytes / 1e6:,.1f} MB), "
        f"{found.skipped - found.failed:,} labelled before, {found.failed:,} failed before"
    )
    for uri in found.examples:
        print(f"  {readable(uri)}")
    if found.fresh > len(found.examples):
        print(f"  and {found.fresh - len(found.examples):,} more")
    for why, count in source.passed_over.most_common():
        print(f"passed over: {count:,} × {why}")
