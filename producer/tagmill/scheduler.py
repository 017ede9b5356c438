"""The scheduler: sends the tick, by Celery beat and by no clock that anybody sets.

A tick that waits in the broker is not followed by another one, so that they do not pile up while
no lane takes them. An expiry would do the same as long as the clocks of all machines agree: a
worker whose clock is ahead would drop every tick.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import beat

from tagmill.broker import Broker
from tagmill.celery_app import celery_app
from tagmill.errors import BrokerError
from tagmill.settings import Settings

log = logging.getLogger(__name__)

JITTER = 0.1
"""Of the time between two ticks: several schedulers that start together do not stay together."""


class Scheduler(beat.Scheduler):  # type: ignore[misc]  # Celery ships no types
    """Celery's, with the tick as its only entry.

    Args:
        send_tick: sends it, or does not where one waits. May raise `BrokerError`.
        every_s: seconds between two ticks.
    """

    def __init__(
        self, *arguments: Any, send_tick: Callable[[], bool], every_s: float, **options: Any
    ) -> None:
        self._send_tick = send_tick
        self._every_s = every_s
        super().__init__(*arguments, **options)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send the tick.

        Returns:
            Seconds until the next one; Celery's own `tick` finds them by the time of day.
        """
        try:
            if not self._send_tick():
                log.info("no tick was sent: one waits to be taken")
        except BrokerError as error:
            log.error("no tick was sent: %s", error)
        return self._every_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311


def run_scheduler(settings: Settings, *, every_s: float) -> None:
    """Send the tick, until told to stop.

    Running several is harmless.

    Args:
        settings: as for `celery_app`.
        every_s: seconds between two ticks.

    Raises:
        BrokerError: if no broker is set.
    """
    broker = Broker(settings)
    app: Any = celery_app(settings)
    app.Beat(
        # It keeps nothing on disk: the store knows.
        scheduler_cls=partial(Scheduler, send_tick=broker.send_tick, every_s=every_s),
        loglevel="INFO",
        quiet=True,
        redirect_stdouts=False,
    ).run()
