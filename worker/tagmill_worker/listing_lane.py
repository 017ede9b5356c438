"""A lane that lists: what a schedule labels has no producer that would list it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tagmill.contract import ListMessage
from tagmill.errors import SourceError, UsageError
from tagmill.firing import LISTING_S
from tagmill.listing import Listener
from tagmill.producing import Producing
from tagmill.settings import Settings
from tagmill.store import Job, Store

log = logging.getLogger(__name__)

RENEW_S = LISTING_S / 4
"""Between two words that the listing goes on."""

REFUSED = "its source cannot be listed"
"""What the reason of a pause begins with that ends with the next try."""

AGAIN_S = 60.0
"""After which a source that a lane could not list is tried again, perhaps on another machine."""

GIVE_UP_S = 3600.0
"""A source of which nothing could be listed for that long is not there tonight."""


class _Renewing(Listener):
    """Says in the store that the listing goes on.

    Args:
        store: where the job is.
        clock: seconds, monotonic.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._renewed_at = clock()

    def on_page(self, job: Job) -> None:
        if self._clock() - self._renewed_at > RENEW_S:
            self._renewed_at = self._clock()
            self._store.jobs.renew_listing(job.id, LISTING_S)


def list_job(
    message: ListMessage, *, settings: Settings, store: Store, clock: Callable[[], float]
) -> None:
    """List the source of a job from where its listing stands; the message may come twice.

    Args:
        message: names the job.
        settings: of the worker.
        store: where the job is.
        clock: seconds, monotonic.

    Raises:
        MissingError: if the store, the broker or S3 is away; the tick names the job again.
    """
    with Producing(settings) as producing:
        try:
            _go_on(store, message.job)
            job = producing.resume_listing(message.job, listener=_Renewing(store, clock))
        except SourceError as error:
            _leave(store, message.job, str(error))
        except UsageError as error:  # ended, or in another lane's hands
            log.info("nothing to list: %s job=%s", error, message.job)
        else:
            log.info("listed job=%s items=%d", job.id, job.listed)


def _go_on(store: Store, job_id: str) -> None:
    if (store.jobs.get(job_id).paused or "").startswith(REFUSED):
        store.jobs.resume(job_id)


def _leave(store: Store, job_id: str, why: str) -> None:
    """Leave a job to another lane, whose machine may have the folder that this one lacks."""
    job = store.jobs.get(job_id)
    store.schedules.note(job_id, why)
    if not job.listed and store.jobs.now() - job.created_at > GIVE_UP_S:
        log.error("job cancelled: %s job=%s", why, job_id)
        store.jobs.cancel(job_id)
        return
    log.warning("not listed here: %s job=%s", why, job_id)
    if not job.listed and job.paused is None:  # else what is listed is labelled meanwhile
        store.jobs.pause(job_id, f"{REFUSED}: {why}")
    store.jobs.renew_listing(job_id, AGAIN_S)
