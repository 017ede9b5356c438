"""What `run` and `retry` share: the hold on the state folder, the work, and what is said of it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tagmill.cli.progress import LiveProgress, clock, console, counted
from tagmill.contract import ErrorCode
from tagmill.embedded import Servers, build_model, label_words
from tagmill.errors import UsageError
from tagmill.export import check_results_file, check_writable, export, is_object
from tagmill.registry import BUILT_IN, ModelVersion, open_registry
from tagmill.report import check_replaceable, write_report
from tagmill.s3 import S3
from tagmill.settings import Settings, load_settings
from tagmill.sources import printable
from tagmill.state_folder import StateFolder
from tagmill.store import Job, Store
from tagmill.thumbnails import Thumbnails
from tagmill.watch import Progress, Watcher


def embedded_settings(**options: object) -> Settings:
    """Settings of a command that brings its own store, in the state folder."""
    settings = load_settings(**options)
    if settings.store_url is not None:
        console.print(
            "TAGMILL_STORE_URL is not written to: this command keeps its own store; "
            f"look into it with --state-dir {settings.state_dir}",
            markup=False,
        )
    return settings.model_copy(update={"store_url": None})


@contextmanager
def held(settings: Settings) -> Iterator[tuple[StateFolder, Store, LiveProgress]]:
    """Hold the state folder, with its store open and a place to show progress."""
    folder = StateFolder(settings.state_dir)
    with folder.locked(), LiveProgress() as view:
        store = Store(settings.store_address)
        store.prepare()
        try:
            yield folder, store, view
        finally:
            store.close()


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """How the work ended.

    Attributes:
        failures: of the job's items by error code, those of earlier runs too.
        seen: how often each best label was seen in this run.
        took_s: seconds, report included.
    """

    job: Job
    failures: dict[ErrorCode, int]
    seen: Counter[str]
    took_s: float

    @property
    def failed(self) -> int:
        """Items that failed, in this run or an earlier one."""
        return sum(self.failures.values())


def label(
    folder: StateFolder,
    store: Store,
    view: LiveProgress,
    *,
    settings: Settings,
    model: ModelVersion,
    outputs: Outputs,
    work: Callable[[Servers, Watcher], Job],
) -> Labelled:
    """Do the work with the servers at hand, and write what it came to."""
    watch = _Watch(view)
    try:
        if not open_registry(settings).holds(model):
            if find_spec("tensorflow") is not None:
                view.say(f"building {model}, once: about 10 seconds")
            build_model(settings, folder, model)
        started = time.monotonic()
        since = store.jobs.now()
        words = label_words(settings.lane_count, model)
        with Servers(settings, folder, words=words) as servers:
            try:
                job = work(servers, watch)
            except KeyboardInterrupt:
                view.say("stopping: lanes finish the chunks in hand (Ctrl-C again gives them up)")
                raise
        outputs.write(store, job, settings, since=since, took_s=time.monotonic() - started)
    except KeyboardInterrupt:
        _say_how_to_go_on(store)
        raise
    return Labelled(
        job=job,
        failures=store.outcomes.failures(job.id),
        seen=watch.seen,
        took_s=time.monotonic() - started,
    )


def say_end(
    labelled: Labelled, passed_over: Counter[str], outputs: Outputs, settings: Settings
) -> None:
    """Say what the work came to, in a few lines."""
    job, took_s = labelled.job, labelled.took_s
    failed_before = labelled.failed - job.failed
    parts = [f"{job.ok:,} labelled", f"{job.failed:,} failed"]
    if job.skipped > failed_before:
        parts.append(f"{job.skipped - failed_before:,} labelled before")
    if failed_before:
        parts.append(f"{failed_before:,} failed before")
    done = job.ok + job.failed
    rate = f", {done / took_s:,.0f} images/s with start and report" if done else ""
    took = f"{took_s:.1f} s" if took_s < 60 else clock(took_s)
    console.print(f"job {job.id}: {', '.join(parts)} in {took}{rate}", markup=False)
    if not job.model.startswith(f"{BUILT_IN}@"):
        console.print(f"labelled by {job.model}", markup=False)
    if labelled.seen:
        console.print(f"seen most: {counted(labelled.seen)}", markup=False)
    for why, count in passed_over.most_common():
        console.print(f"passed over: {count:,} × {why}", markup=False)
    if labelled.failed:
        why = ", ".join(f"{count:,} × {code}" for code, count in labelled.failures.items())
        console.print(f"failed: {why}", markup=False)
        if ErrorCode.OUTSIDE_ROOTS in labelled.failures:
            console.print("  more folders may be read: --root FOLDER", markup=False)
        shown = f"{program()} results {job.id} --status failed"
        if settings.state_dir != Settings.model_fields["state_dir"].default:
            shown += f" --state-dir {shlex.quote(str(settings.state_dir))}"
        console.print(f"  which and why: {shown}", markup=False)
    for path in outputs.paths:
        console.print(f"wrote {printable(path)}", markup=False)


class Outputs:
    """The files that a command writes, checked before its work begins.

    Args:
        out: results files, paths or S3 URIs, in the format of their suffix.
        report: where the report goes, if at all.
        s3: where buckets are.
        source: what is labelled, which none of them may replace.

    Raises:
        UsageError: if one of them cannot be written, or would replace another or the source.
        MissingError: if a format's library is not installed, or S3 cannot be asked.
    """

    def __init__(
        self, out: Sequence[str], report: Path | None, *, s3: S3, source: str = ""
    ) -> None:
        self._s3 = s3
        self._out = out
        self._report = report
        self.paths = [*out, *([str(report)] if report is not None else [])]
        for path in out:
            check_results_file(path, s3=s3)
        if report is not None:
            check_writable(report)
            check_replaceable(report)
        taken = {_whole(source): "the source"} if source else {}
        for path in self.paths:
            other = taken.get(_whole(path))
            if other is not None:
                raise UsageError(f"{path} is {other} already: name another file")
            taken[_whole(path)] = "one of the files to be written"

    def write(
        self, store: Store, job: Job, settings: Settings, *, since: float, took_s: float
    ) -> None:
        """Write them all, those in S3 last: what is on this machine is there if they fail."""
        self._export([path for path in self._out if not is_object(path)], store, job)
        if self._report is not None:
            cache = settings.state_dir / "thumbnails"
            write_report(
                self._report,
                store=store,
                job=job,
                thumbnails=Thumbnails(cache, settings=settings, s3=self._s3),
                since=since,
                took_s=took_s,
            )
        self._export([path for path in self._out if is_object(path)], store, job)

    def _export(self, paths: list[str], store: Store, job: Job) -> None:
        for path in paths:
            export(store.outcomes.results(job.id), path, job=job.id, s3=self._s3)


def _whole(path: str) -> str:
    return path if is_object(path) else os.path.abspath(path)


class _Watch:
    """Passes progress on to the view and keeps what the end wants to tell."""

    def __init__(self, view: LiveProgress) -> None:
        self._view = view
        self.seen: Counter[str] = Counter()

    def __call__(self, progress: Progress) -> None:
        self.seen = progress.seen
        self._view(progress)


def _say_how_to_go_on(store: Store) -> None:
    newest = store.jobs.recent(1)
    if newest and not newest[0].state.is_finished:
        job = newest[0]
        done = job.ok + job.failed + job.skipped
        console.print(f"stopped: {done:,} of {job.listed:,} images are done and kept")
    command = printable(f"{program()} {shlex.join(sys.argv[1:])}")
    console.print(f"to go on, run it again: {command}", markup=False)


def program() -> str:
    """How this command was called, so that it can be called again."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m tagmill"
    found = shutil.which("tagmill")
    return "tagmill" if found and os.path.samefile(found, called) else shlex.quote(called)
