"""``tagmill run`` and ``tagmill retry``: the commands that label on this machine."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tagmill.cli.options import Models, Out, StateDir
from tagmill.cli.progress import LiveProgress, clock, console
from tagmill.embedded import build_model
from tagmill.enqueue import plan
from tagmill.errors import SourceError
from tagmill.export import check_writable, export, format_of
from tagmill.registry import BUILT_IN, ModelVersion, Registry
from tagmill.report import check_replaceable, readable, write_report
from tagmill.run import (
    Progress,
    Servers,
    label_source,
    nothing_found,
    retry_failed,
    with_roots,
)
from tagmill.settings import Settings, load_settings
from tagmill.sources import Source, open_source
from tagmill.state_folder import StateFolder
from tagmill.store import Job, Store
from tagmill.thumbnails import Thumbnails

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


def run(
    source: Annotated[str, typer.Argument(help="A folder, file, glob or manifest of images.")],
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
    roots: Annotated[
        list[Path] | None,
        typer.Option(
            "--root",
            envvar="TAGMILL_ROOTS",
            help="Read files under this folder only; repeatable; else the source's.",
        ),
    ] = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Label a source on this machine: all that is new or changed in it."""
    settings = load_settings(
        state_dir=state_dir, models=models, lanes=lanes, roots=tuple(roots) if roots else None
    )
    opened = open_source(source, leave_out=settings.state_dir)
    settings = with_roots(settings, opened.name)
    folder = StateFolder(settings.state_dir)
    version = Registry(settings.models_dir).resolve(model)
    if dry_run:
        _say_plan(opened, settings=settings, model=version, top_k=top_k, again=again)
        return
    outputs = _Outputs(out or [], None if no_report else report)
    with folder.locked(), LiveProgress() as view:
        store = _store(settings)
        _need_model(settings, folder, version, view)
        started = time.monotonic()
        try:
            with Servers(settings, folder, lanes=_lanes(settings), model=version) as servers:
                watch = _Watch(view)
                job = label_source(
                    opened,
                    settings=settings,
                    store=store,
                    servers=servers,
                    model=version,
                    top_k=top_k,
                    again=again,
                    lanes=_lanes(settings),
                    watch=watch,
                )
            outputs.write(store, job, settings)
        except KeyboardInterrupt:
            _say_how_to_go_on(store, shlex.join(["tagmill", *sys.argv[1:]]))
            raise
        took_s = time.monotonic() - started
    _say_end(job, watch.seen, took_s, opened.passed_over, outputs)
    store.close()
    if strict and _failed(store, job):
        raise typer.Exit(1)


def retry(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="Its id, or how that begins.")],
    out: Out = None,
    report: Report = Path("report.html"),
    no_report: NoReport = False,
    strict: Strict = False,
    lanes: Lanes = None,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Label the failed items of a job once more."""
    settings = load_settings(state_dir=state_dir, models=models, lanes=lanes)
    folder = StateFolder(settings.state_dir)
    outputs = _Outputs(out or [], None if no_report else report)
    with folder.locked(), LiveProgress() as view:
        store = _store(settings)
        job = store.jobs.get(job_id)
        settings = with_roots(settings, job.source)
        version = Registry(settings.models_dir).resolve(job.model)
        _need_model(settings, folder, version, view)
        started = time.monotonic()
        try:
            with Servers(settings, folder, lanes=_lanes(settings), model=version) as servers:
                watch = _Watch(view)
                job = retry_failed(
                    job, settings=settings, store=store, servers=servers, watch=watch
                )
            outputs.write(store, job, settings)
        except KeyboardInterrupt:
            _say_how_to_go_on(store, shlex.join(["tagmill", *sys.argv[1:]]))
            raise
        took_s = time.monotonic() - started
    _say_end(job, watch.seen, took_s, Counter(), outputs)
    store.close()
    if strict and job.failed:
        raise typer.Exit(1)


class _Outputs:
    """The files that a run writes, checked before its work begins."""

    def __init__(self, out: list[Path], report: Path | None) -> None:
        self.out = out
        self.report = report
        for path in out:
            format_of(path)
            check_writable(path)
        if report is not None:
            check_writable(report)
            check_replaceable(report)

    def write(self, store: Store, job: Job, settings: Settings) -> None:
        for path in self.out:
            export(store.outcomes.results(job.id), path)
        if self.report is not None:
            cache = settings.state_dir / "thumbnails"
            thumbnails = Thumbnails(cache, max_pixels=settings.max_pixels)
            write_report(self.report, store=store, job=job, thumbnails=thumbnails)


class _Watch:
    """Passes progress on to the view and keeps what the end wants to tell."""

    def __init__(self, view: LiveProgress) -> None:
        self._view = view
        self.seen: Counter[str] = Counter()

    def __call__(self, progress: Progress) -> None:
        self.seen = progress.seen
        self._view(progress)


def _store(settings: Settings) -> Store:
    # A run is embedded by definition: its store lies in the state folder whatever is set.
    store = Store(settings.model_copy(update={"store_url": None}).store_address)
    store.prepare()
    return store


def _lanes(settings: Settings) -> int:
    if settings.lanes:
        return settings.lanes
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _need_model(
    settings: Settings, folder: StateFolder, version: ModelVersion, view: LiveProgress
) -> None:
    if not Registry(settings.models_dir).holds(version):
        view.say(f"building {version} (once, about a quarter of a minute)")
        build_model(settings, folder, version)


def _say_plan(
    source: Source, *, settings: Settings, model: ModelVersion, top_k: int, again: bool
) -> None:
    address = settings.model_copy(update={"store_url": None}).store_address
    exists = (settings.state_dir / "tagmill.db").exists()
    store = Store(address if exists else "sqlite://")  # without a state folder: in memory
    store.prepare()
    since = float("inf") if again else 0.0
    found = plan(source, store=store, model=str(model), top_k=top_k, fresh_since=since)
    if not found.listed:
        raise SourceError(nothing_found(source))
    print(
        f"{found.listed:,} images in {readable(source.name)}\n"
        f"{found.fresh:,} to label with {model} ({found.fresh_bytes / 1e6:,.1f} MB), "
        f"{found.skipped:,} labelled already"
    )
    for uri in found.examples:
        print(f"  {readable(uri)}")
    if found.fresh > len(found.examples):
        print(f"  and {found.fresh - len(found.examples):,} more")
    for why, count in source.passed_over.most_common():
        print(f"{count:,} passed over: {why}")


def _say_how_to_go_on(store: Store, command: str) -> None:
    newest = store.jobs.recent(1)
    if newest and not newest[0].state.is_finished:
        job = newest[0]
        done = job.ok + job.failed
        console.print(f"stopped: {done:,} of {job.listed - job.skipped:,} images are done and kept")
    console.print(f"to go on, run it again: {command}", markup=False)


def _failed(store: Store, job: Job) -> bool:
    """True where an item of the job failed, in it or in the earlier job that it took over from."""
    if not job.skipped:
        return bool(job.failed)
    return any(result.error is not None for result in store.outcomes.results(job.id))


def _say_end(
    job: Job, seen: Counter[str], took_s: float, passed_over: Counter[str], outputs: _Outputs
) -> None:
    done = job.ok + job.failed
    parts = [f"{job.ok:,} labelled", f"{job.failed:,} failed"]
    if job.skipped:
        parts.append(f"{job.skipped:,} labelled before")
    rate = f", {done / took_s:,.0f} images/s with start and report" if done else ""
    state = "" if job.state.value == "done" else f" ({job.state})"
    console.print(
        f"job {job.id}{state}: {', '.join(parts)} in "
        f"{f'{took_s:.1f} s' if took_s < 60 else clock(took_s)}{rate}",
        markup=False,
    )
    if seen:
        most = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in seen.most_common(5))
        console.print(f"seen most: {most}", markup=False)
    for why, count in passed_over.most_common():
        console.print(f"passed over: {count:,} × {why}", markup=False)
    if job.failed:
        console.print(f"the failed ones: tagmill results {job.id} --status failed", markup=False)
    for path in [*outputs.out, *([outputs.report] if outputs.report else [])]:
        console.print(f"wrote {path}", markup=False)
