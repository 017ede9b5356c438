"""The broker: where messages wait that wake lanes up. The truth is in the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from tagmill.contract import LABEL_QUEUE, LABEL_TASK, ChunkMessage
from tagmill.errors import BrokerError

TASK_TIME_LIMIT_S = 600
"""After that long on one chunk a lane is killed; a sound one takes seconds."""

SOCKET_TIMEOUT_S = 20.0
"""For how long a broker may leave a request without an answer."""

VISIBILITY_TIMEOUT_S = 36 * TASK_TIME_LIMIT_S
"""When Redis hands an unacknowledged message to somebody else: far above the time limit, since
before that the ledger's lease has already done it."""


def celery_app(url: str) -> Celery:
    """A Celery application with the settings that producers and lanes must agree on.

    Args:
        url: ``redis://…``, ``redis+socket:///path`` or ``amqp://…``. Nothing connects here.
    """
    app = Celery("tagmill", broker=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_timeout=False,  # a chunk whose lane was killed is not done
        task_time_limit=TASK_TIME_LIMIT_S,
        task_queues={LABEL_QUEUE: {}},
        task_default_queue=LABEL_QUEUE,
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_soft_shutdown_timeout=30.0,
        worker_enable_soft_shutdown_on_idle=False,
        worker_proc_alive_timeout=120.0,  # a lane warms its model up before it says it is alive
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(url),
    )
    return app


def _transport_options(url: str) -> dict[str, float]:
    if not url.startswith("redis"):
        return {}
    return {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
    }


class Broker:
    """The sending end of a broker.

    Args:
        url: as for `celery_app`.
    """

    def __init__(self, url: str) -> None:
        self._app: Any = celery_app(url)  # Celery ships no types

    def send(self, messages: Iterable[ChunkMessage]) -> None:
        """Send one message per chunk.

        Raises:
            BrokerError: if the broker is away; some of the messages may have been sent.
        """
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                for message in messages:
                    self._app.send_task(
                        LABEL_TASK, kwargs=message.as_kwargs(), queue=LABEL_QUEUE, producer=producer
                    )
        except (OperationalError, OSError) as error:
            raise BrokerError(f"the broker took no message: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        self._app.close()
