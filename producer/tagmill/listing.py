"""Listing a source into a job: once, from where it broke off, or for ever."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tagmill.chunk_sizes import GPU_CHUNK_ITEMS, LEAST_CHUNK_ITEMS
from tagmill.contract import ChunkMessage
from tagmill.enqueue import enqueue, position
from tagmill.follow import follow
from tagmill.patience import Patience
from tagmill.sources import Source
from tagmill.store import Job, LaneNote, Store

log = logging.getLogger(__name__)

EXPECTED_LANES = 8
"""What chunks are cut for while no lane is alive yet."""


class Listener:
    """Is told how a listing gets on; each method may be overridden."""

    def on_job(self, job: Job) -> None:
        """The job is made, nothing is listed yet."""

    def on_page(self, job: Job) -> None:
        """A page of the listing is written; ``job`` is how it stands."""

    def on_trouble(self, error: Exception) -> None:
        """A source that is followed could not be looked at; the next look goes on."""

    def on_away(self, sentence: str) -> None:
        """The store or the broker is away and is waited for, or it is back; goes to the log."""
        log.warning("%s", sentence)

    def on_passed_over(self, passed_over: Counter[str]) -> None:
        """The listing is complete; entries that were left out, counted by reason."""


def list_source(
    source: Source,
    job: Job,
    *,
    found: Iterator[tuple[str, str]] | None,
    store: Store,
    send: Callable[[Sequence[ChunkMessage]], None],
    lanes: Sequence[LaneNote],
    chunk_items: int,
    listener: Listener,
) -> Job:
    """List a source into a job's chunks, from where its listing stands.

    A store or a broker that goes away meanwhile is waited for.

    Args:
        source: of the job.
        job: that is listing; one that follows its source goes on until it is cancelled.
        found: the source's items, where their listing was begun already.
        store: where the job lives.
        send: wakes lanes up.
        lanes: that are alive.
        chunk_items: items of a chunk at the most.
        listener: is told how it gets on.

    Returns:
        The job as it stands afterwards.

    Raises:
        SourceError, StoreError, BrokerError: what went wrong; calling it again goes on.
        UsageError: if another producer is listing the job too.
    """
    patient = Patience(listener.on_away)

    def report() -> None:
        listener.on_page(patient(store.jobs.get, job.id))

    if job.follow_s is not None:
        follow(
            source,
            job,
            store=store,
            send=send,
            on_page=report,
            on_trouble=listener.on_trouble,
            patient=patient,
        )
    else:
        after = patient(position, store, job)
        on_gpus = any("gpu" in lane.name.partition("@")[0] for lane in lanes)
        enqueue(
            found or source.items(after),
            job,
            store=store,
            send=send,
            lanes=len(lanes) or EXPECTED_LANES,
            chunk_items=chunk_items,
            on_page=report,
            after=after,
            least_items=GPU_CHUNK_ITEMS if on_gpus else LEAST_CHUNK_ITEMS,
            patient=patient,
        )
    listener.on_passed_over(source.passed_over)
    return patient(store.jobs.get, job.id)
