"""The composition root of the heavy side: settings in, a worker out."""

from __future__ import annotations

import logging
import mmap
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from tagmill.broker import Broker
from tagmill.celery_app import TASK_TIME_LIMIT_S, celery_app, queue_name
from tagmill.contract import TRAIN_QUEUE, ChunkMessage, ListMessage
from tagmill.errors import BrokerError
from tagmill.models import resolve
from tagmill.registry import open_registry
from tagmill.settings import Settings
from tagmill.store import Store
from tagmill.tick import tick
from tagmill.training import TrainMessage
from tagmill_worker.consumer import Consumer
from tagmill_worker.hands import Hand, hands
from tagmill_worker.lane import Lane, lane_of
from tagmill_worker.listing_lane import list_job
from tagmill_worker.lost import LostLanes
from tagmill_worker.slots import Slot
from tagmill_worker.tasks import register
from tagmill_worker.training_process import await_training
from tagmill_worker.watchdog import Watchdog

log = logging.getLogger(__name__)

ENDED_BY_A_LANE = 3
"""The exit code where a lane met what every lane would meet: no clean end, to be started again."""


CPU_LANE_BYTES = 4 << 30
"""Of memory, at the most, to label: twice what the largest image that the limits allow took."""


_IDLE_LOOKS, _LOOK_S = 3, 0.1  # a chunk that is on its way to a lane gets there between two


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
    stopping = mmap.mmap(-1, 1)  # shared with the lanes, which are forked
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
        tick=partial(_tick, settings, broker),
        list_job=partial(_list, settings),
        train=partial(_train, stopping),
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
    worker.wait_for_soft_shutdown = partial(_await_chunks, in_hand, app.conf, stopping)
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


def _tick(settings: Settings, broker: Broker, store: Store) -> int:
    registry = open_registry(settings)
    return tick(
        store, broker, lambda text: str(resolve(text, registry=registry, aliases=store.aliases))
    )


def _list(settings: Settings, message: ListMessage, lane: Lane) -> None:
    list_job(message, settings=settings, store=lane.store, clock=time.monotonic)


def _train(stopping: mmap.mmap, message: TrainMessage, lane: Lane) -> None:
    with lane.training():
        await_training(
            message, store=lane.store, lane=lane.name, is_stopping=lambda: stopping[0] != 0
        )


def _await_chunks(in_hand: Sequence[Hand], conf: Any, stopping: mmap.mmap) -> None:
    """Wait until no lane has anything in hand, or the soft shutdown's time is over.

    This stops the worker's loop, so that no chunk is begun meanwhile but what is on its way.
    """
    stopping[0] = 1  # a training, which takes longer than this, is handed on
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
