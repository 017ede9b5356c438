"""The tick: finds work that nobody is at and nobody was told of, and tells; fires schedules.

It may run anywhere, at any time, twice at once: a message too many is forgotten by the lane that
finds its chunk taken or done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tagmill.contract import LABEL_QUEUE, TRAIN_QUEUE, ListMessage, Message
from tagmill.errors import ModelUnavailable
from tagmill.firing import LISTING_S, fire_due
from tagmill.store import Store
from tagmill.training import TrainMessage

if TYPE_CHECKING:
    from tagmill.broker import Broker

log = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two ticks: what a lost message or lane costs at the most, beside the lease."""


def _unresolved(model: str) -> str:
    raise ModelUnavailable(f"what {model} means is not known here")


def tick(store: Store, broker: Broker, resolve: Callable[[str], str] = _unresolved) -> int:
    """Fire schedules that are due, and send again what has an expired lease or was lost.

    Chunks and trainings may be queued in the store for hours while their messages wait in the
    broker; only where none waits there, they were lost.

    Args:
        store: where the work is.
        broker: where messages wait.
        resolve: as `fire_due` takes it; without it schedules that label are left to other ticks.

    Returns:
        How many messages were sent.

    Raises:
        StoreError: if the store is away.
        BrokerError: if the broker is.
    """
    expired = store.retries.release_expired()
    lost = store.retries.queued() if broker.waiting(LABEL_QUEUE) == 0 else []
    chunks: list[Message] = list(dict.fromkeys([*expired, *lost]))
    trainings = [TrainMessage(training=lost) for lost in store.training_claims.release_expired()]
    if broker.waiting(TRAIN_QUEUE) == 0:
        trainings += store.trainings.waiting()
    listings = [ListMessage(job=job) for job in store.jobs.unlisted(LISTING_S)]
    messages: list[Message] = list(dict.fromkeys([*chunks, *trainings, *listings]))
    broker.send(messages)
    store.lanes.forget_gone()
    fired = fire_due(store, resolve)  # last: what is amiss with a schedule keeps nothing else
    broker.send(fired)
    messages += fired
    if messages:
        log.info(
            "sent fired=%d chunks=%d trainings=%d listings=%d",
            len(fired),
            len(chunks),
            len(trainings),
            len(listings),
        )
    return len(messages)
