"""``tagmill enqueue`` and ``tagmill watch``: giving a cluster work, and seeing it eat it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypedDict

import typer

from tagmill.cli.jobs import JobId
from tagmill.cli.labelling import program
from tagmill.cli.opening import existing, is_at_work, settings_of
from tagmill.cli.options import (
    Again,
    DryRun,
    Exclude,
    Include,
    KeepGoing,
    Model,
    Models,
    StateDir,
    Strict,
    TopK,
)
from tagmill.cli.progress import LiveProgress, clock, console
from tagmill.cli.run import say_plan
from tagmill.cli.trainings import is_training, say_training, shown
from tagmill.client import Client
from tagmill.contract import JobState, Priority
from tagmill.errors import MissingError, SourceError, UsageError
from tagmill.listing import Listener
from tagmill.patience import Patience
from tagmill.registry import BUILT_IN
from tagmill.sources import printable, readable
from tagmill.store import Job, Training
from tagmill.train import watch_training
from tagmill.watch import Feed, Progress, watch_to_end

WATCH_S = 0.5
"""Between two looks of `watch`: many may watch one store."""

LONELY_S = 10.0
"""Without a commit for that long, `watch` looks whether any lane is alive."""

_SAY_EVERY_S = 2.0


def enqueue(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE", help="A folder, file, glob, manifest or s3://bucket/prefix."
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="JOB",
            envvar="TAGMILL_RESUME",
            help="Go on with a listing that broke off.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", envvar="TAGMILL_FOLLOW", help="Go on with what arrives."),
    ] = False,
    every_s: Annotated[
        float | None,
        typer.Option(
            "--every",
            envvar="TAGMILL_EVERY_S",
            min=0.1,
            help="Seconds between two looks at all that is followed; else 30, folders 600.",
        ),
    ] = None,
    model: Model = BUILT_IN,
    top_k: TopK = 5,
    priority: Annotated[
        Priority,
        typer.Option("--priority", envvar="TAGMILL_PRIORITY", help="Which job lanes take first."),
    ] = Priority.NORMAL,
    include: Include = None,
    exclude: Exclude = None,
    again: Again = False,
    stale: Annotated[
        bool,
        typer.Option(
            "--stale",
            envvar="TAGMILL_STALE",
            help="Only what an older version of the model labelled, least sure first.",
        ),
    ] = False,
    keep_going: KeepGoing = False,
    dry_run: DryRun = False,
    models: Models = None,
    state_dir: StateDir = None,
) -> None:
    """Enqueue a source for the workers of a cluster.

    The job's id goes to stdout first, all else to stderr.
    """
    if (source is None) == (resume is None):
        raise UsageError("name a source, or a job with --resume")
    if resume is not None and (
        dry_run or follow or again or stale or keep_going or include or exclude
    ):
        raise UsageError("--resume goes on as the job was made: it takes no other option")
    if stale and (follow or again):
        raise UsageError("--stale labels what was labelled before: not with --follow or --again")
    settings = settings_of(context, state_dir, models=models)
    said = _Said()
    with Client(settings) as client:
        if resume is not None:
            job = client.job(resume)
            said.on_job(job)
            with said.how_to_go_on():
                job = client.resume_listing(job.id, listener=said)
            _say_end(job, client)
            return
        if source is None:  # said above
            return
        asked = _Asked(
            model=model,
            top_k=top_k,
            again=again,
            stale=stale,
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
        )
        if dry_run:
            say_plan(client.plan(source, **asked), source, model=client.model(model))
            return
        with said.how_to_go_on():
            job = client.enqueue(
                source,
                **asked,
                keep_going=keep_going,
                priority=priority,
                follow=follow,
                every_s=every_s,
                listener=said,
            )
        _say_end(job, client)


def watch(
    context: typer.Context,
    job_id: JobId = None,
    strict: Strict = False,
    state_dir: StateDir = None,
) -> None:
    """Show the progress of a job or training until it ends."""
    settings = settings_of(context, state_dir)
    with existing(settings) as client, LiveProgress() as view:
        patient = Patience(view.say)
        if job_id and is_training(job_id):
            training = client.store.trainings.get(job_id)
            if sentence := nobody_at_work(client, training):
                view.say(sentence)
            say_training(watch_training(client.store, training.id, shown(view), patient=patient))
            return
        job = client.job(job_id) if job_id else client.newest()
        feed = Feed(client.store, job, from_start=True)
        lonely = _Lonely(client, feed)
        was_paused: str | None = None

        def show(progress: Progress) -> None:
            nonlocal was_paused
            paused = progress.job.paused
            if paused and paused != was_paused:
                view.say(f"job {job.id} is paused: {paused}; {program()} resume {job.id} goes on")
            was_paused = paused
            if not patient(lonely.says_so, view):
                view(progress)

        try:
            job = watch_to_end(feed, show, poll_s=WATCH_S, patient=patient)
        except KeyboardInterrupt:
            console.print(f"job {job.id} goes on without you watching it", markup=False)
            raise
        failures = patient(client.store.outcomes.failures, job.id)
    parts = [f"{job.ok:,} labelled", f"{job.failed:,} failed"]
    if job.skipped:
        parts.append(f"{job.skipped:,} known before")
    took_s = (job.finished_at or job.created_at) - job.created_at
    console.print(f"job {job.id}: {', '.join(parts)} in {clock(took_s)}", markup=False)
    if failures:
        why = ", ".join(f"{count:,} × {code}" for code, count in failures.items())
        console.print(f"failed: {why}", markup=False)
    if strict and failures:
        raise typer.Exit(1)


class _Asked(TypedDict):
    model: str
    top_k: int
    again: bool
    stale: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]


class _Said(Listener):
    """Says how a listing gets on."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._job: Job | None = None

    def on_job(self, job: Job) -> None:
        self._job = job
        print(job.id, flush=True)
        if job.follow_s is not None:
            console.print(f"following {readable(job.source)}: Ctrl-C stops", markup=False)

    def on_page(self, job: Job) -> None:
        now = time.monotonic()
        if now - self._at >= _SAY_EVERY_S:
            self._at = now
            console.print(f"listed {job.listed:,} so far", markup=False)

    def on_trouble(self, error: Exception) -> None:
        console.print(f"{printable(str(error))}; looking again", markup=False)

    def on_away(self, sentence: str) -> None:
        console.print(printable(sentence), markup=False)

    def on_passed_over(self, passed_over: Counter[str]) -> None:
        for why, count in passed_over.most_common():
            console.print(f"passed over: {count:,} × {why}", markup=False)

    @contextmanager
    def how_to_go_on(self) -> Iterator[None]:
        """Where it breaks off, say with which command it goes on."""
        try:
            yield
        except (KeyboardInterrupt, MissingError, SourceError):
            if self._job is not None:
                command = f"{program()} enqueue --resume {self._job.id}"
                console.print(f"to go on with the listing: {command}", markup=False)
            raise


class _Lonely:
    """Notices that nothing moves since no lane is alive that labels."""

    def __init__(self, client: Client, feed: Feed) -> None:
        self._client = client
        self._feed = feed
        self._asked_at = 0.0
        self._is_lonely = False

    def says_so(self, view: LiveProgress) -> bool:
        now = time.monotonic()
        if self._feed.stalled_s() < LONELY_S:
            self._is_lonely = False
        elif now - self._asked_at > LONELY_S:
            self._asked_at = now
            was_lonely, self._is_lonely = self._is_lonely, not _labelling(self._client)
            if self._is_lonely and not was_lonely:
                view.say("no lane that labels is alive: start one with 'tagmill worker'")
        return self._is_lonely


def nobody_at_work(client: Client, training: Training) -> str | None:
    """What to say of a training that nobody can be at work on."""
    if training.state.is_finished:
        return None
    if not is_at_work(client):
        return "nobody is at work on it: the same 'tagmill train' command goes on"
    if client.settings.store_url and not any(lane.trains for lane in client.workers()):
        return "no lane that trains is alive: start one with 'tagmill worker --queues train'"
    return None


def _labelling(client: Client) -> int:
    return sum(not lane.trains for lane in client.workers())


def _say_end(job: Job, client: Client) -> None:
    to_do = job.listed - job.skipped
    console.print(
        f"job {job.id}: {to_do:,} to label, {job.skipped:,} known before, "
        f"in {job.chunks:,} chunks; lanes that label and are alive: {_labelling(client)}",
        markup=False,
    )
    if job.paused:
        console.print(f"it is paused: {program()} resume {job.id}", markup=False)
    elif job.state is JobState.RUNNING:
        console.print(f"watch it: {program()} watch {job.id}", markup=False)
