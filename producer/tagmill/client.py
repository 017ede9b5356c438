"""The Python API: what the commands of a cluster do, to be called from a program.

::

    from tagmill import Client

    with Client() as client:
        job = client.enqueue("s3://bucket/prefix")
        for progress in client.watch(job.id):
            print(progress.job.open)
        for result in client.results(job.id, min_score=0.5):
            print(result.uri, result.labels[0].name)
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from os import PathLike, fspath
from typing import Any

from tagmill.chunk_sizes import RETRY_CHUNK_ITEMS
from tagmill.contract import BY_HAND, ErrorCode, JobState, Status
from tagmill.errors import UnknownJob, UsageError
from tagmill.filters import Filter
from tagmill.producing import Producing
from tagmill.sources import source_name
from tagmill.store import Job, LaneNote, Result, Training
from tagmill.store.lanes import SEEN_WITHIN_S
from tagmill.train import ask_for_training, dataset_name
from tagmill.training import TrainingRequest
from tagmill.watch import Feed, Progress


class Client(Producing):
    """A producer: enqueues jobs, watches them, reads what came of them.

    Nothing connects before the first use.

    Args:
        settings: as the environment says, where none are given.
    """

    def jobs(self, limit: int = 20) -> Sequence[Job]:
        """The newest jobs, newest first."""
        return self.store.jobs.recent(limit)

    def job(self, job_id: str) -> Job:
        """The job of that id, or of the only id that begins so.

        Raises:
            UnknownJob: if there is none, or more than one.
        """
        return self.store.jobs.get(job_id)

    def newest(self, source: str | None = None, *, model: str | None = None) -> Job:
        """The newest job, of a source and of the version that a model's name means.

        Raises:
            UnknownJob: if there is none.
        """
        version = str(self.model(model)) if model else None
        found = self.store.jobs.newest(
            source=source_name(source) if source else None, model=version
        )
        if found is None:
            of = f" of {source}" if source else ""
            by = f" by {version}" if version else ""
            raise UnknownJob(f"no job{of}{by} in {self.store.database.name}")
        return found

    def watch(self, job_id: str, *, every_s: float = 1.0) -> Iterator[Progress]:
        """Look at a job until it ends, its last state included.

        A store that goes away meanwhile is waited for.
        """
        feed = Feed(self.store, self.job(job_id), from_start=True)
        while True:
            progress = self._patient(feed.read)
            yield progress
            if progress.job.state.is_finished:
                return
            time.sleep(every_s)

    def results(
        self,
        job_id: str | None = None,
        *,
        source: str | None = None,
        model: str | None = None,
        status: Status | None = None,
        label: str | None = None,
        min_score: float = 0.0,
    ) -> Iterator[Result]:
        """Read results in listing order, in constant memory.

        Args:
            job_id: of which job; else the newest.
            source: of the newest job of that source instead.
            model: of the newest job by the version that this means now.
            status: only items that ended so.
            label: only items with that label, by name or id.
            min_score: only items whose best label, or the one named, has that score at least.

        Raises:
            UnknownJob: if there is no such job.
        """
        job = self.job(job_id) if job_id else self.newest(source, model=model)
        wanted = Filter(status=status, label=label, min_score=min_score)
        return filter(wanted.takes, self.store.outcomes.results(job.id))

    def pause(self, job_id: str, *, why: str = BY_HAND) -> Job:
        """Let no lane take its chunks; those in hand are finished.

        Raises:
            UsageError: if it has ended.
        """
        job = self.job(job_id)
        if not self.store.jobs.pause(job.id, why):
            raise UsageError(f"job {job.id} is {job.state} already")
        return self.job(job.id)

    def resume(self, job_id: str) -> Job:
        """Let lanes take its chunks again, and wake them up.

        Raises:
            UsageError: if it has ended.
        """
        job = self.job(job_id)
        self.broker.check()
        if not self.store.jobs.resume(job.id):
            raise UsageError(f"job {job.id} is {job.state} already")
        self._remind(job)
        return self.job(job.id)

    def cancel(self, job_id: str) -> Job:
        """End a job; what it has labelled stays.

        Raises:
            UsageError: if it has ended.
        """
        job = self.job(job_id)
        if not self.store.jobs.cancel(job.id):
            raise UsageError(f"job {job.id} is {job.state} already")
        return self.job(job.id)

    def retry(self, job_id: str, *, codes: Collection[ErrorCode] | None = None) -> int:
        """Label the failed items of a job once more.

        Args:
            job_id: of which job.
            codes: only items that failed so; all where ``None``.

        Returns:
            How many items there are.

        Raises:
            UsageError: if the job was cancelled or is listing, or no item failed so.
        """
        if isinstance(codes, str):
            raise UsageError(f"codes are a list, as [{codes!r}]")
        job = self.job(job_id)
        if job.state in (JobState.CANCELLED, JobState.SUPERSEDED):
            raise UsageError(f"job {job.id} is {job.state}: enqueue its source again instead")
        self.broker.check()
        requeued = self.store.retries.requeue_failed(
            job.id, chunk_items=min(self.settings.chunk_items, RETRY_CHUNK_ITEMS), codes=codes
        )
        if not requeued:
            which = f" with {', '.join(sorted(codes))}" if codes else ""
            raise UsageError(f"job {job.id} ({job.state}) has no failed items{which} to retry")
        self._remind(job)
        return requeued

    def train(self, dataset: str | PathLike[str], name: str, **parameters: Any) -> Training:
        """Ask for a training of a model's next version; lanes of the queue ``train`` do it.

        Args:
            dataset: a folder per class or a manifest ``uri,label``, here or in S3; or
                `tagmill.training.CORRECTIONS`.
            name: of the model.
            parameters: as `TrainingRequest` has them.

        Raises:
            UsageError: if that cannot be.
        """
        request = TrainingRequest(name=name, dataset=dataset_name(fspath(dataset)), **parameters)
        self.broker.check()
        return ask_for_training(self.store, self.broker.send, request)

    def training(self, training_id: str) -> Training:
        """The training of that id, or of the only id that begins so.

        Raises:
            UnknownTraining: if there is none, or more than one.
        """
        return self.store.trainings.get(training_id)

    def cancel_training(self, training_id: str) -> Training:
        """End a training; its lane notices within seconds.

        Raises:
            UsageError: if it has ended.
        """
        training = self.training(training_id)
        if not self.store.trainings.cancel(training.id):
            raise UsageError(f"training {training.id} is {training.state} already")
        return self.training(training.id)

    def workers(self) -> Sequence[LaneNote]:
        """The lanes that are alive, by name."""
        return self.store.lanes.alive(within_s=SEEN_WITHIN_S)
