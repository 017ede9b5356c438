"""The composition root of the heavy side: settings in, a worker out."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from celery.worker import consumer

from tagmill.broker import Broker
from tagmill.celery_app import TASK_TIME_LIMIT_S, celery_app, queue_name
from tagmill.contract import TRAIN_QUEUE, ChunkMessage
from tagmill.errors import BrokerError
from tagmill.settings import Settings
from tagmill.store import Store
from tagmill.tick import tick
from tagmill_worker.hands import Hand, hands
from tagmill_worker.lane import lane_of
from tagmill_worker.lost import LostLanes
from tagmill_worker.slots import Slot
from tagmill_worker.tasks import register
from tagmill_worker.watchdog import Watchdog

log = logging.getLogger(__name__)

ENDED_BY_A_LANE = 3
"""The exit code where a lane met what every lane would meet: no clean end, to be started again."""


CPU_LANE_BYTES = 4 << 30
"""Of memory, at the most, to label: twice what the largest image that the limits allow took."""


_IDLE_LOOKS, _LOOK_S = 3, 0.1  # a chunk that is on its way to a lane gets there between two

# What Celery and the broker's clients raise over what is no message: they check little of it.
_STRAY = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
_CLIENTS = ("kombu.transport", "kombu.connection", "kombu.mess", "amqp", "redis")


class Consumer(consumer.Consumer):  # type: ignore[misc]  # Celery ships no types
    """Celery's, but nothing that lies in a queue or that a broker answers ends the worker.

    It goes without the 28 queues that Celery makes on RabbitMQ for messages with a delay, for we
    send none.
    """

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]  # as above
        """The steps of its start."""

        default_steps: ClassVar = [
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if "DelayedDelivery" not in step
        ]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # A stray entry of a Redis list is met while the list is read, and gone from it then.
        self._known = (*self.conninfo.connection_errors, *self.conninfo.channel_errors)
        self.connection_errors: tuple[type[Exception], ...] = (*self._known, *_STRAY)

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, ever more seldom; not all workers of a broker that is away at once."""
        conn.ensure_connection = partial(
            conn.ensure_connection,
            interval_start=random.uniform(0.5, 2.0),  # noqa: S311  # no secret, as those below
            interval_step=random.uniform(1.0, 3.0),  # noqa: S311
            interval_max=random.uniform(8.0, 12.0),  # noqa: S311
        )
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Raise what is no such error: nothing was read yet."""
        if not isinstance(exc, self._known):
            raise exc
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Say which of both it was, and raise what is neither."""
        if not isinstance(exc, self._known):
            if not is_stray(exc, _CLIENTS):
                raise exc
            log.error("dropped an entry of a queue that is no message", exc_info=exc)
        super().on_connection_error_after_connected(exc)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        """Celery's, but a message that is none ends with a line in the log, not with the worker."""
        handle = super().create_task_handler(*arguments, **options)

        def guarded(message: Any) -> Any:
            try:
                return handle(message)
            except _STRAY as error:
                if not is_stray(error):
                    raise
                log.exception("dropped a message that is none of ours")
                message.reject()
                return None

        return guarded


def is_stray(error: Exception, readers: tuple[str, ...] = ("",)) -> bool:
    """True where others stumbled over what they read; what our own code raises is a fault in it.

    Args:
        error: as it was caught.
        readers: packages of which one has to be on the way from there to where it was raised.
    """
    way = [
        str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    return not way[-1].startswith("tagmill") and any(name.startswith(readers) for name in way)


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
    send = partial(send_or_leave, broker)
    in_hand = hands(len(slot.lanes))
    watchdog = Watchdog(
        in_hand, item_timeout_s=settings.item_timeout_s, lane_bytes=_lane_bytes(settings, slot)
    )
    end = register(
        app,
        partial(
            lane_of,
            settings,
            time_limit_s=TASK_TIME_LIMIT_S,
            decode_threads=slot.decode_threads,
        ),
        slot=slot,
        hands=in_hand,
        lost=LostLanes(
            slot,
            in_hand,
            watchdog,
            open_store=partial(Store, settings.store_address),
            send=send,
        ),
        send=send,
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
    # Celery's own sleeps for the whole time, whatever becomes of the chunks.
    worker.wait_for_soft_shutdown = partial(_await_chunks, in_hand, app.conf)
    watchdog.start()
    worker.start()
    return int(worker.exitcode or (ENDED_BY_A_LANE if end.was_asked_for else 0))


def send_or_leave(broker: Broker, messages: Sequence[ChunkMessage]) -> None:
    """Send messages for chunks that are in the ledger: the tick names those that cannot be sent."""
    try:
        broker.send(messages)
    except BrokerError as error:
        log.warning(
            "the tick names %d chunks, their messages were not sent: %s", len(messages), error
        )


def _await_chunks(in_hand: Sequence[Hand], conf: Any) -> None:
    """Wait until no lane has a chunk in hand, or the soft shutdown's time is over.

    This stops the worker's loop, so that no chunk is begun meanwhile but what is on its way.
    """
    deadline = time.monotonic() + conf.worker_soft_shutdown_timeout
    idle_looks = 0
    while idle_looks < _IDLE_LOOKS and time.monotonic() < deadline:
        idle_looks = 0 if any(hand.attempt for hand in in_hand) else idle_looks + 1
        time.sleep(_LOOK_S)
    if idle_looks < _IDLE_LOOKS:
        log.warning("chunks are given up after %.0f s", conf.worker_soft_shutdown_timeout)


def _lane_bytes(settings: Settings, slot: Slot) -> int | None:
    if settings.lane_bytes is not None or slot.gpu is not None or slot.queue == TRAIN_QUEUE:
        return settings.lane_bytes
    return CPU_LANE_BYTES
