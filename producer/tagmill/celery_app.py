"""The Celery application that producers and lanes share: its queues, its addresses, its limits."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from celery import Celery
from kombu.entity import Queue

from tagmill.contract import CONTROL_QUEUE, LABEL_QUEUE, TRAIN_QUEUE, Priority
from tagmill.errors import BrokerError
from tagmill.settings import Settings

TASK_TIME_LIMIT_S = 600
"""After that long on one chunk a lane is killed; a sound one takes seconds."""

SOCKET_TIMEOUT_S = 20.0
"""For how long a broker may leave a request without an answer."""

VISIBILITY_TIMEOUT_S = 36 * TASK_TIME_LIMIT_S
"""When Redis hands an unacknowledged message to somebody else: far above the time limit, since
before that the ledger's lease has already done it."""

SCHEMES = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps", "pyamqp")

QUEUES = (LABEL_QUEUE, TRAIN_QUEUE, CONTROL_QUEUE)

# Kombu's Redis keeps a list for each step and empties the lowest number first; RabbitMQ's quorum
# queues (from 4.0 on) deliver numbers above 4 first, and older ones in the order of sending.
REDIS_PRIORITIES = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6}
AMQP_PRIORITIES = {Priority.HIGH: 9, Priority.NORMAL: 4, Priority.LOW: 0}


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
        worker_disable_prefetch=not is_amqp(url),  # which only Redis' transport knows
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


def is_amqp(url: str) -> bool:
    """True of RabbitMQ's addresses."""
    return url.startswith(("amqp", "pyamqp"))


def _queue(settings: Settings, url: str, queue: str) -> Queue:
    name = queue_name(settings, queue)
    # Quorum queues keep their messages when a node of the broker dies.
    arguments = {"x-queue-type": "quorum"} if is_amqp(url) else None
    made: Queue = Queue(name, routing_key=name, queue_arguments=arguments)  # type: ignore[no-untyped-call]  # Kombu ships few types
    return made


def _transport_options(settings: Settings, url: str) -> dict[str, object]:
    if is_amqp(url):
        return {"confirm_publish": True}
    options: dict[str, object] = {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "priority_steps": sorted(REDIS_PRIORITIES.values()),
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
