"""``tagmill run`` and ``tagmill retry``: the commands that label on this machine."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tagmill.cli.jobs import NamedJob
from tagmill.cli.labelling import Outputs, embedded_settings, held, label, program, say_end
from tagmill.cli.opening import existing, names_state_dir, settings_of, version_meant
from tagmill.cli.options import (
    Again,
    DryRun,
    Exclude,
    Include,
    KeepGoing,
    Model,
    Models,
    Out,
    StateDir,
    Strict,
    TopK,
)
from tagmill.contract import TRANSIENT_CODES, ErrorCode
from tagmill.embedded import Servers
from tagmill.enqueue import Plan, plan, require_images
from tagmill.errors import UsageError
from tagmill.registry import BUILT_IN, ModelVersion, open_registry
from tagmill.run import label_source, retry_failed, with_roots
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import Selection, Source, open_source, readable
from tagmill.state_folder import StateFolder
from tagmill.store import Job, Store
from tagmill.watch import Watcher

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
Roots = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        envvar="TAGMILL_ROOTS",
        help="Read files under this folder only; repeatable; else the source's.",
    ),
]


def run(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder, file, glob, manifest or s3://bucket/prefix."
        ),
    ],
    out: Out = None,
    model: Model = BUILT_IN,
    top_k: TopK = 5,
    include: Include = None,
    exclude: Exclude = None,
    again: Again = False,
    keep_going: KeepGoing = False,
    dry_run: DryRun = False,
    report: Report = Path("report.html"),
    no_report: NoReport = False,
    strict: Strict = False,
    lanes: Lanes = None,
    roots: Roots = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Label what is new or changed in a source, on this machine."""
    settings = embedded_settings(
        state_dir=state_dir, models=models, lanes=lanes, roots=tuple(roots) if roots else None
    )
    selection = Selection(include=tuple(include or ()), exclude=tuple(exclude or ()))
    s3 = S3(settings)
    opened = open_source(source, leave_out=settings.state_dir, s3=s3, selection=selection)
    settings = with_roots(settings, opened.name)
    registry = open_registry(settings)
    # Aliases are moved where the cluster's store is; labels are kept in one of our own.
    version = version_meant(settings_of(context, state_dir, models=models), model)
    if dry_run:
        found = _plan(opened, settings=settings, model=version, top_k=top_k, again=again)
        say_plan(found, opened.name, model=version)
        return
    outputs = Outputs(out or [], None if no_report else report, s3=s3, source=source)
    with held(settings) as (folder, store, view):
        if not registry.holds(version):
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
                keep_going=keep_going,
                selection=selection,
                watch=watch,
            )

        labelled = label(
            folder, store, view, settings=settings, model=version, outputs=outputs, work=work
        )
    say_end(labelled, opened.passed_over, outputs, settings)
    if strict and labelled.failed:
        raise typer.Exit(1)


def retry(
    context: typer.Context,
    job_id: NamedJob,
    codes: Annotated[
        list[str] | None,
        typer.Option(
            "--code",
            envvar="TAGMILL_CODE",
            help="Only items that failed so: an error code, or 'transient'; repeatable.",
        ),
    ] = None,
    out: Out = None,
    report: Report = Path("report.html"),
    no_report: NoReport = False,
    strict: Strict = False,
    lanes: Lanes = None,
    roots: Roots = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Label the failed items of a job once more.

    On this machine, or by the workers of a cluster where TAGMILL_BROKER_URL names one.
    """
    wanted = _codes(codes)
    cluster = settings_of(context, state_dir, models=models)
    if cluster.broker_url is not None and not names_state_dir(context):
        if out or strict or lanes:
            raise UsageError(
                f"a cluster's workers label them: {program()} watch {job_id} --strict waits, "
                f"{program()} results {job_id} --out writes"
            )
        with existing(cluster) as client:
            count = client.retry(job_id, codes=wanted)
            print(f"{count:,} items enqueued again: {program()} watch {job_id}", file=sys.stderr)
        return
    settings = embedded_settings(
        state_dir=state_dir, models=models, lanes=lanes, roots=tuple(roots) if roots else None
    )
    outputs = Outputs(out or [], None if no_report else report, s3=S3(settings))
    with held(settings) as (folder, store, view):
        job = store.jobs.get(job_id)
        settings = with_roots(settings, job.source)
        version = open_registry(settings).resolve(job.model)

        def work(servers: Servers, watch: Watcher) -> Job:
            return retry_failed(
                job,
                codes=wanted,
                settings=settings,
                store=store,
                servers=servers,
                watch=watch,
            )

        labelled = label(
            folder, store, view, settings=settings, model=version, outputs=outputs, work=work
        )
    say_end(labelled, Counter(), outputs, settings)
    if strict and labelled.failed:
        raise typer.Exit(1)


def _codes(names: list[str] | None) -> frozenset[ErrorCode] | None:
    if not names:
        return None
    found: set[ErrorCode] = set()
    for name in names:
        if name == "transient":
            found |= TRANSIENT_CODES
        elif name in set(ErrorCode):
            found.add(ErrorCode(name))
        else:
            known = ", ".join(sorted(ErrorCode))
            raise UsageError(f"no error code {name!r}: there is 'transient', {known}")
    return frozenset(found)


def say_plan(found: Plan, source: str, *, model: ModelVersion) -> None:
    """Say what a job would do."""
    print(
        f"{found.listed:,} images in {readable(source)}\n"
        f"{found.fresh:,} to label with {model} ({found.fresh_bytes / 1e6:,.1f} MB), "
        f"{found.skipped - found.failed:,} labelled by it before, {found.failed:,} failed before"
    )
    for uri in found.examples:
        print(f"  {readable(uri)}")
    if found.fresh > len(found.examples):
        print(f"  and {found.fresh - len(found.examples):,} more")
    for why, count in found.passed_over.most_common():
        print(f"passed over: {count:,} × {why}")


def _plan(
    source: Source, *, settings: Settings, model: ModelVersion, top_k: int, again: bool
) -> Plan:
    exists = StateFolder(settings.state_dir).check_format()
    store = Store(settings.store_address if exists else "sqlite://")  # without a folder: in memory
    store.prepare()
    since = float("inf") if again else 0.0
    return plan(source, store=store, model=str(model), top_k=top_k, fresh_since=since)
