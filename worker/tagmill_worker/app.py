"""The composition root of the heavy side: settings in, a worker out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from celery.worker import consumer

from tagmill.broker import Broker, celery_app, queue_name
from tagmill.settings import Settings
from tagmill.tick import tick
from tagmill_worker.lane import lane_of
from tagmill_worker.slots import Slot
from tagmill_worker.tasks import register

log = logging.getLogger(__name__)

ENDED_BY_A_LANE = 3
"""The exit code where a lane met what every lane would meet: no clean end, to be started again."""


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's, without the 28 queues that it makes on RabbitMQ for messages with a delay.

    We send none with a delay.
    """

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]  # as above
        """The steps of its start."""

        default_steps: ClassVar = [
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if "DelayedDelivery" not in step
        ]

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """Celery's, but a message that is none ends with a line in the log, not with the worker."""
        handle = super().create_task_handler(*arguments, **options)

        def guarded(message: Any) -> Any:
            try:
                return handle(message)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                log.error("dropped a message that is none of ours: %r", error)
                message.reject()
                return None

        return guarded


def run_worker(settings: Settings, slot: Slot, *, warm_up: str | None) -> int:
    """Run the lanes of a slot in processes of their own until told to stop.

    Args:
        settings: with a broker URL.
        slot: its lanes, their device and the queues that they take work from.
        warm_up: the model version that each loads before it takes work.

    Returns:
        The exit code.

    Raises:
        BrokerError: if no broker is set.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(processName)s %(message)s"
    )
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # our own line per chunk says more
    if slot.gpu is not None and settings.classifier == "auto":
        settings = settings.model_copy(update={"classifier": "keras"})
    app: Any = celery_app(settings)  # Celery ships no types
    app.conf.worker_consumer = Consumer
    broker = Broker(settings)
    end = register(
        app,
        partial(lane_of, settings, decode_threads=slot.decode_threads),
        slot=slot,
        send=broker.send,
        tick=lambda store: tick(store, broker),
        warm_up=warm_up,
    )
    worker = app.Worker(
        hostname=slot.name,
        concurrency=len(slot.lanes),
        pool="prefork",
        optimization="fair",
        queues=[queue_name(settings, queue) for queue in slot.queues],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="INFO",
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or (ENDED_BY_A_LANE if end.was_asked_for else 0))
