"""The broker: where messages wait that wake lanes up. The truth is in the ledger."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed, PreconditionFailed
from celery import Celery
from kombu.entity import Queue
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

from tagmill.contract import (
    CONTROL_QUEUE,
    LABEL_QUEUE,
    LABEL_TASK,
    TICK_TASK,
    TRAIN_QUEUE,
    ChunkMessage,
    Priority,
)
from tagmill.errors import BrokerAway, BrokerError
from tagmill.settings import Settings

TASK_TIME_LIMIT_S = 600
"""After that long on one chunk a lane is killed; a sound one takes seconds."""

SOCKET_TIMEOUT_S = 20.0
"""For how long a broker may leave a request without an answer."""

AMQP_TIMEOUT_S = 10
"""The same for RabbitMQ, which may take connections and, at an alarm, leave messages unanswered."""

VISIBILITY_TIMEOUT_S = 36 * TASK_TIME_LIMIT_S
"""When Redis hands an unacknowledged message to somebody else: far above the time limit, since
before that the ledger's lease has already done it."""

SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps", "pyamqp")

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

QUEUES = (LABEL_QUEUE, TRAIN_QUEUE, CONTROL_QUEUE)

# Kombu's Redis keeps a list for each step and empties the lowest number first; RabbitMQ's quorum
# queues (from 4.0 on) deliver numbers above 4 first, and older ones in the order of sending.
_REDIS_PRIORITIES = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6}
_AMQP_PRIORITIES = {Priority.HIGH: 9, Priority.NORMAL: 4, Priority.LOW: 0}


def queue_name(settings: Settings, queue: str) -> str:
    """A queue's name on the broker: ``label``, or ``namespace.label``."""
    return f"{settings.namespace}.{queue}" if settings.namespace else queue


def celery_app(settings: Settings) -> Celery:
    """A Celery application with the settings that producers and lanes must agree on.

    Args:
        settings: with a broker URL: ``redis://…``, ``rediss://…``, ``redis+socket:///path``,
            ``sentinel://…``, ``amqp://…`` or ``amqps://…``. Nothing connects here.

    Raises:
        BrokerError: if no broker is set, or its URL cannot be one.
    """
    if not settings.broker_url:
        raise BrokerError("no broker: set TAGMILL_BROKER_URL, as redis://host:6379/0")
    url = settings.broker_url.get_secret_value()
    _check_url(url)
    if url.startswith("sentinel") and not settings.broker_master:
        raise BrokerError("Sentinels need the name of the master: set TAGMILL_BROKER_MASTER")
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
        task_queues=[_queue(settings, url, queue) for queue in QUEUES],
        task_default_queue=queue_name(settings, LABEL_QUEUE),
        task_create_missing_queues=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=not _is_amqp(url),  # which only Redis' transport knows
        worker_soft_shutdown_timeout=30.0,
        worker_enable_soft_shutdown_on_idle=False,
        worker_proc_alive_timeout=600.0,  # a lane warms its model up before it says it is alive
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # whoever writes to the broker could stop workers
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings, url),
        broker_use_ssl=_tls(settings, url),
    )
    return app


def _check_url(url: str) -> None:
    """Refuse what Kombu would stumble over later. Nothing of the URL is quoted: it has secrets."""
    for part in url.split(";"):
        try:
            split = urlsplit(part)
            split.port  # noqa: B018  # a property that checks
        except ValueError as error:
            raise BrokerError(
                "TAGMILL_BROKER_URL cannot be read: is its port a number, and every '/', '@' and "
                "':' of the password written as %2F, %40 and %3A?"
            ) from error
        where = split.path if split.scheme == "redis+socket" else split.hostname
        if split.scheme not in SCHEMES or not where:
            raise BrokerError(
                f"TAGMILL_BROKER_URL is of no kind that tagmill knows: {', '.join(SCHEMES)}"
            )


def _is_amqp(url: str) -> bool:
    return url.startswith(("amqp", "pyamqp"))


def _queue(settings: Settings, url: str, queue: str) -> Queue:
    name = queue_name(settings, queue)
    # Quorum queues keep their messages when a node of the broker dies.
    arguments = {"x-queue-type": "quorum"} if _is_amqp(url) else None
    made: Queue = Queue(name, routing_key=name, queue_arguments=arguments)  # type: ignore[no-untyped-call]  # Kombu ships few types
    return made


def _transport_options(settings: Settings, url: str) -> dict[str, object]:
    if _is_amqp(url):
        return {"confirm_publish": True}
    options: dict[str, object] = {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "priority_steps": sorted(_REDIS_PRIORITIES.values()),
        "sep": ":",  # so that a person can type the lists' names
    }
    if url.startswith("sentinel"):
        options["master_name"] = settings.broker_master
    return options


def _tls(settings: Settings, url: str) -> dict[str, object] | None:
    """TLS that verifies the server: Kombu's own default for ``rediss`` does not."""
    authority = str(settings.broker_ca) if settings.broker_ca else None
    if url.startswith("rediss"):
        redis = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        return redis | ({"ssl_ca_certs": authority} if authority else {})
    if url.startswith("amqps"):
        return {"cert_reqs": ssl.CERT_REQUIRED} | ({"ca_certs": authority} if authority else {})
    return None


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
        self._priorities = _REDIS_PRIORITIES if self.is_redis else _AMQP_PRIORITIES
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

    def send(self, messages: Iterable[ChunkMessage]) -> None:
        """Send one message per chunk.

        Raises:
            BrokerAway: if the broker does not answer; some of the messages may have been sent.
            BrokerError: if it refuses; as there.
        """
        queue = queue_name(self._settings, LABEL_QUEUE)
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                for message in messages:
                    self._app.send_task(
                        LABEL_TASK,
                        kwargs=message.as_kwargs(),
                        queue=queue,
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
        return not _is_amqp(self._app.conf.broker_url)

    @property
    def name(self) -> str:
        """The address without its password, for people."""
        return _PASSWORD.sub(r"\1@", self._app.conf.broker_url)

    def close(self) -> None:
        """Close all connections."""
        self._app.close()
