"""Watching a job: its counters, and what the chunks committed since the last look tell."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tagmill.contract import ChunkMessage, JobState
from tagmill.errors import JobCancelled
from tagmill.patience import AT_ONCE, Patience
from tagmill.store import Job, Store

POLL_S = 0.1
"""Between two looks at the store: short beside a chunk, long beside the look's cost."""

END_POLL_S = 0.02
"""The same for the last chunks, whose end somebody waits for."""

_OVERLAP_S = 5.0  # commits become visible a little out of their order in time


@dataclass(slots=True)
class Progress:
    """How far a job is, for whoever shows it.

    Attributes:
        seen: how often each best label was seen in this run, by name.
        failures: how often each error code occurred in this run.
    """

    job: Job
    seen: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


class Watcher(Protocol):
    """Shows progress; called several times a second."""

    def __call__(self, progress: Progress, /) -> None: ...


class Feed:
    """Reads a job's progress.

    Args:
        store: where the job is.
        job: which one.
        from_start: count what chunks committed before this told, too.
    """

    def __init__(self, store: Store, job: Job, *, from_start: bool = False) -> None:
        self._store = store
        self._progress = Progress(job=job)
        self._counted: set[int] = set()
        self._newest = 0.0
        if not from_start:
            self._counted = {seq for seq, _, _ in store.jobs.summaries(job.id)}
        self._moved_at = time.monotonic()

    def stalled_s(self) -> float:
        """For how long no chunk was committed, or none was found waiting."""
        return time.monotonic() - self._moved_at

    def waiting(self) -> list[ChunkMessage]:
        """A message for every chunk that a lane could take."""
        self._moved_at = time.monotonic()
        return self._store.retries.waiting(self._progress.job.id)

    def read(self) -> Progress:
        """Look once."""
        progress = self._progress
        progress.job = self._store.jobs.get(progress.job.id)
        since = self._newest - _OVERLAP_S
        for seq, committed_at, summary in self._store.jobs.summaries(progress.job.id, since=since):
            self._newest = max(self._newest, committed_at)
            if seq not in self._counted:
                self._counted.add(seq)
                self._moved_at = time.monotonic()
                progress.seen.update(summary.seen)
                progress.failures.update(summary.failures)
        return progress


def watch_to_end(
    feed: Feed,
    watch: Watcher,
    *,
    check: Callable[[Job], None] | None = None,
    poll_s: float = POLL_S,
    patient: Patience = AT_ONCE,
) -> Job:
    """Show a job's progress until it ends.

    Args:
        feed: of the job.
        watch: shows it.
        check: called with the job after each look; raises where nothing is to be waited for.
        poll_s: between two looks.
        patient: waits for a store that is away.

    Returns:
        The job, ended.

    Raises:
        JobCancelled: if somebody cancelled it, or a later run went on with it.
    """
    while True:
        progress = patient(feed.read)
        watch(progress)
        job = progress.job
        if job.state is JobState.CANCELLED:
            raise JobCancelled(
                f"job {job.id} was cancelled from elsewhere; "
                f"{job.ok + job.failed:,} outcomes stay: tagmill results {job.id}"
            )
        if job.state is JobState.SUPERSEDED:
            raise JobCancelled(f"job {job.id} was interrupted, and a later run went on with it")
        if job.state.is_finished:
            return job
        if check is not None:
            check(job)
        time.sleep(poll_s if job.pending > 2 else min(poll_s, END_POLL_S))
