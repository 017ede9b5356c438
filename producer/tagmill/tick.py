"""The tick: finds chunks that nobody is at work on and nobody was told of, and tells again.

It may run anywhere, at any time, twice at once: a message too many is forgotten by the lane that
finds its chunk taken or done.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tagmill.contract import LABEL_QUEUE
from tagmill.store import Store

if TYPE_CHECKING:
    from tagmill.broker import Broker

log = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two ticks: what a lost message or lane costs at the most, beside the lease."""


def tick(store: Store, broker: Broker) -> int:
    """Send again what has an expired lease or was lost from the broker.

    Chunks may be queued in the ledger for hours while their messages wait in the broker; only
    where none waits there, they were lost.

    Returns:
        How many messages were sent.

    Raises:
        StoreError: if the store is away.
        BrokerError: if the broker is.
    """
    expired = store.retries.release_expired()
    lost = store.retries.queued() if broker.waiting(LABEL_QUEUE) == 0 else []
    messages = list(dict.fromkeys([*expired, *lost]))
    broker.send(messages)
    store.lanes.forget_gone()
    if messages:
        log.info("sent again expired=%d lost=%d", len(expired), len(messages) - len(expired))
    return len(messages)
