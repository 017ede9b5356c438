"""Trainings as ``tagmill status``, ``watch``, ``cancel`` and ``train`` show them."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tagmill.cli.progress import LiveProgress, clock, console
from tagmill.sources import printable, readable
from tagmill.store import Training

MOST_FINDINGS = 10
"""That are said; the report and ``--json`` have all."""

STAGES = {
    "listing": ("listing the dataset", ""),
    "base": ("making the base ready", ""),
    "features": ("running the base", "images"),
    "head": ("training the head", "epochs at the most"),
    "fine_tuning": ("fine-tuning", "steps"),
    "champion": ("running the champion", "images"),
    "making": ("making the version", ""),
    "probe": ("probing it in a lane", ""),
    "report": ("writing its report", ""),
}
"""What the trainer calls its stages, as a person reads them, and what it counts there."""

INTERRUPTED = "interrupted"
"""The state that people see of what is unfinished while nobody can be at work on it."""

_LOG_EVERY_S = 10.0


def is_training(job_id: str | None) -> bool:
    """True of an id that can be a training's only: jobs' begin with a digit."""
    return job_id is not None and job_id.startswith("t")


def training_row(training: Training, *, at_work: bool) -> dict[str, Any]:
    """A training for scripts; see `stage_of`."""
    row = {"kind": "training", **dataclasses.asdict(training)}
    return row if at_work or training.state.is_finished else {**row, "state": INTERRUPTED}


def shown(view: LiveProgress) -> Callable[[Training], None]:
    """Shows how far a training is where that has changed, in a log not too often."""
    every_s = 0.0 if console.is_terminal else _LOG_EVERY_S
    last, stage, said_at = "", "", -math.inf

    def show(training: Training) -> None:
        nonlocal last, stage, said_at
        now = time.monotonic()
        is_soon = training.stage == stage and now - said_at < every_s
        if is_soon or training.state.is_finished or stage_of(training) == last:
            return
        last, stage, said_at = stage_of(training), training.stage or "", now
        view.say(f"{training.request.name}: {last}")

    return show


def stage_of(training: Training, *, at_work: bool = True) -> str:
    """How far a training is, in a phrase.

    One that is unfinished while nobody can be at work on it was interrupted.
    """
    if not (at_work or training.state.is_finished):
        return INTERRUPTED
    if training.state.is_finished or training.stage is None:
        return str(training.state)
    phrase, unit = STAGES.get(training.stage, (training.stage, ""))
    if training.total <= 1:
        return phrase
    return f"{phrase}: {training.done:,} of {training.total:,} {unit}".rstrip()


def say_training(training: Training) -> None:
    """Say what a training came to."""
    took_s = (training.finished_at or 0.0) - training.created_at
    console.print(
        f"training {training.id}: {outcome_of(training)} in {clock(took_s)}", markup=False
    )
    if training.said:
        console.print(printable(training.said), markup=False)
    for line in findings_of(training):
        console.print(line, markup=False)
    report = training.result.get("report")
    if report:
        console.print(f"report: {printable(str(report))}", markup=False)


def findings_of(training: Training) -> list[str]:
    """What the trainer found in the dataset that its owner should know, a line each."""
    found = training.result.get("findings") or []
    lines = [f"dataset: {printable(str(one.get('said')))}" for one in found[:MOST_FINDINGS]]
    if len(found) > MOST_FINDINGS:
        lines.append(f"dataset: {len(found) - MOST_FINDINGS:,} more findings, see the report")
    return lines


def outcome_of(training: Training) -> str:
    """What a training came to, in a few words."""
    if training.version is None:
        return str(training.state)
    promoted = "promoted" if training.promoted else "not promoted"
    return f"{training.request.name}@{training.version}, {promoted}"


def show_trainings(trainings: Sequence[Training], out: Console, *, at_work: bool) -> None:
    """A table of trainings; of those that are unfinished somebody may be at work, or not."""
    if not trainings:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("training", "model", "state", "outcome", "dataset"):
        table.add_column(name, overflow="fold" if name == "dataset" else "ellipsis")
    for training in trainings:
        table.add_row(
            training.id,
            training.request.name,
            stage_of(training, at_work=at_work),
            Text(outcome_of(training) if training.version else printable(training.said or "-")),
            Text(readable(training.request.dataset)),
        )
    out.print(table)


def show_training(training: Training, *, at_work: bool, as_json: bool, out: Console) -> None:
    """One training, with what it came to."""
    if as_json:
        print(json.dumps(training_row(training, at_work=at_work)))
        return
    show_trainings([training], out, at_work=at_work)
    if training.said:
        out.print(printable(training.said), markup=False)
    for line in findings_of(training):
        out.print(line, markup=False)
    for name, value in training.result.items():
        if isinstance(value, str | int | float):
            out.print(f"{printable(name)}: {printable(str(value))}", markup=False)
