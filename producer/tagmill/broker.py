"""The broker: where messages wait that wake lanes up. The truth is in the ledger."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed, PreconditionFailed
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from tagmill.celery_app import (
    AMQP_PRIORITIES,
    REDIS_PRIORITIES,
    SOCKET_TIMEOUT_S,
    celery_app,
    is_amqp,
    queue_name,
)
from tagmill.contract import (
    CONTROL_QUEUE,
    LABEL_QUEUE,
    TICK_TASK,
    Message,
)
from tagmill.errors import BrokerAway, BrokerError
from tagmill.settings import Settings

AMQP_TIMEOUT_S = 10
"""As `SOCKET_TIMEOUT_S`, of RabbitMQ: at an alarm it takes connections and answers no message."""

_PASSWORD = re.compile(r"(://[^:@/;]*):[^/;]*@")

_ERRORS = (OperationalError, KombuError, AMQPError, RedisError, OSError, ValueError, TypeError)

# What another try may mend, and what is among it by inheritance but only a person mends.
_PASSING = (
    OperationalError, OSError, RedisConnectionError, RedisTimeout, BusyLoadingError, ReadOnlyError,
    AMQPError,
)  # fmt: skip
_LASTING = (
    AccessRefused, NotAllowed, PreconditionFailed, AuthenticationError, InvalidResponse,
    OutOfMemoryError, ssl.SSLCertVerificationError,
)  # fmt: skip


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it: Kombu wraps those of its transports."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _may_pass(error: Exception) -> bool:
    found = list(causes(error))
    return isinstance(error, _PASSING) and not any(isinstance(each, _LASTING) for each in found)


class Broker:
    """The sending end of a broker.

    Args:
        settings: as for `celery_app`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app: Any = celery_app(settings)  # Celery ships no types
        self._priorities = REDIS_PRIORITIES if self.is_redis else AMQP_PRIORITIES
        self._alarm = ""
        if not self.is_redis:
            # Not for lanes, which wait for messages as long as there are none.
            self._app.conf.broker_transport_options |= {
                "read_timeout": AMQP_TIMEOUT_S,
                "write_timeout": AMQP_TIMEOUT_S,
                "on_blocked": self._note_alarm,
                "on_unblocked": self._note_alarm,
            }
            self._app.conf.task_publish_retry_policy = {"max_retries": 1}

    def send(self, messages: Iterable[Message]) -> None:
        """Send messages, each to its queue.

        Raises:
            BrokerAway: if the broker does not answer; some of the messages may have been sent.
            BrokerError: if it refuses; as there.
        """
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                for message in messages:
                    self._app.send_task(
                        message.task,
                        kwargs=message.as_kwargs(),
                        queue=queue_name(self._settings, message.queue),
                        priority=self._priorities[message.priority],
                        producer=producer,
                    )
        except _ERRORS as error:
            raise self._refusal("took no message", error) from error

    def send_tick(self) -> bool:
        """Send the tick, unless one waits already: without lanes they would pile up.

        Returns:
            True where it was sent.

        Raises:
            BrokerAway: if the broker does not answer.
            BrokerError: if it refuses.
        """
        if self.waiting(CONTROL_QUEUE):
            return False
        queue = queue_name(self._settings, CONTROL_QUEUE)
        try:
            self._app.send_task(TICK_TASK, queue=queue, priority=0)
        except _ERRORS as error:
            raise self._refusal("took no tick", error) from error
        return True

    def check(self) -> None:
        """Look whether the broker answers.

        Raises:
            BrokerAway: if it does not.
            BrokerError: if it refuses.
        """
        self.waiting(LABEL_QUEUE)

    def waiting(self, queue: str) -> int:
        """Messages that wait in a queue.

        Raises:
            BrokerAway: if the broker does not answer.
            BrokerError: if it refuses.
        """
        name = queue_name(self._settings, queue)
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=SOCKET_TIMEOUT_S)
                channel = connection.default_channel
                try:
                    return int(channel.queue_declare(queue=name, passive=True).message_count)
                except connection.channel_errors:
                    return 0  # no such queue yet
        except _ERRORS as error:
            raise self._refusal("does not answer", error) from error

    def _note_alarm(self, reason: str = "") -> None:
        self._alarm = reason

    def _refusal(self, what: str, error: Exception) -> BrokerError:
        reason = " ".join(str(error).split()) or "no answer in time"
        if self._alarm:
            reason += f" (it raised an alarm: {self._alarm})"
        if isinstance(error, PreconditionFailed):
            what = "has a queue of that name and another kind"
            reason += ": delete it, or set TAGMILL_NAMESPACE"
        if any(isinstance(cause, OutOfMemoryError) for cause in causes(error)):
            what = "has no room left"
            reason += ": give it more memory (maxmemory), or let lanes work through what waits"
        kind = BrokerAway if _may_pass(error) else BrokerError
        return kind(f"the broker {self.name} {what}: {reason}")

    @property
    def is_redis(self) -> bool:
        """True of Redis and Valkey, however they are reached."""
        return not is_amqp(self._app.conf.broker_url)

    @property
    def name(self) -> str:
        """The address without its password, for people."""
        return _PASSWORD.sub(r"\1@", self._app.conf.broker_url)

    def close(self) -> None:
        """Close all connections."""
        self._app.close()
