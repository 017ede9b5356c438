"""Looks at what tagmill needs, and says of each thing whether it is well and how to mend it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from tagmill.doctor.clocks import compare
from tagmill.doctor.findings import Finding, Health, Look
from tagmill.doctor.ledger import look_at_ledger
from tagmill.doctor.packages import look_at_packages
from tagmill.doctor.registry import look_at_registry
from tagmill.doctor.s3 import is_meant, look_at_s3
from tagmill.doctor.state import look_at_state
from tagmill.doctor.store import look_at_store, migrate
from tagmill.doctor.weights import look_at_weights
from tagmill.settings import Settings

__all__ = ["Finding", "Health", "examine", "migrate"]


def examine(settings: Settings, *, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Look at everything; changes nothing.

    Args:
        settings: that say where everything is.
        now: this machine's clock, in seconds since the epoch.
    """
    yield from look_at_packages(settings).findings
    yield from look_at_state(settings).findings
    broker = Look()
    if settings.broker_url is not None:
        from tagmill.doctor.broker import look_at_broker  # Celery takes a moment to load

        broker = look_at_broker(settings, now=now)
        yield from broker.findings
    store = look_at_store(settings, now=now)
    yield from store.findings
    if store.is_well and store.is_current:
        yield from look_at_ledger(settings, messages=broker.messages).findings
    s3 = Look()
    if is_meant(settings):
        s3 = look_at_s3(settings, now=now)
        yield from s3.findings
    if s3.is_well or not settings.models_in_s3:
        yield from look_at_registry(settings).findings
    yield from look_at_weights(settings).findings
    yield from compare(
        look.clock for look in (broker, store, s3) if look.clock is not None
    ).findings
