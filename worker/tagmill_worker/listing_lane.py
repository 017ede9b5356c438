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
            job = producing.resume_listing(message.job, listener=_Renewing(store, clock))
        except SourceError as error:  # tonight there is nothing; the next time there may be
            log.error("job cancelled: %s job=%s", error, message.job)
            store.jobs.cancel(message.job)
            store.schedules.note(message.job, str(error))
        except UsageError as error:  # ended, or in another lane's hands
            log.info("nothing to list: %s job=%s", error, message.job)
        else:
            log.info("listed job=%s items=%d", job.id, job.listed)
