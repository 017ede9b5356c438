"""The broker: reachable, of a kind and a version that will do, and not about to lose messages."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from socket import gaierror
from typing import Any

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from kombu.exceptions import KombuError
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
)
from redis.exceptions import TimeoutError as RedisTimeout
from redis.sentinel import MasterNotFoundError

from tagmill.broker import Broker, causes
from tagmill.celery_app import celery_app, queue_name
from tagmill.contract import LABEL_QUEUE
from tagmill.doctor.findings import ASK_S, Look
from tagmill.doctor.rabbit import look_at_rabbit
from tagmill.doctor.redis import look_at_redis
from tagmill.errors import TagmillError
from tagmill.settings import Settings

WHAT = "broker"

_AMQP_TIMEOUTS = ("read_timeout", "write_timeout")

_ERRORS = (KombuError, AMQPError, RedisError, OSError, ValueError, TypeError)

# The first that is among the causes of a failure says what it was, and how to mend it.
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    (
        (gaierror,),
        "nobody knows its host's name",
        "look at the host in TAGMILL_BROKER_URL, and at this machine's DNS",
    ),
    (
        (ConnectionRefusedError,),
        "nothing listens there",
        "start the server, or look at host and port in TAGMILL_BROKER_URL",
    ),
    (
        (FileNotFoundError,),
        "there is no such socket",
        "start the server, or look at the path in TAGMILL_BROKER_URL",
    ),
    (
        (PermissionError,),
        "this user may not use its socket",
        "let this user write to the socket of TAGMILL_BROKER_URL",
    ),
    (
        (ssl.SSLCertVerificationError,),
        "its certificate is of no authority that is trusted here",
        "set TAGMILL_BROKER_CA to the file of the authority that signed it",
    ),
    (
        (ssl.SSLError,),
        "it speaks no TLS there",
        "take its TLS port in TAGMILL_BROKER_URL, or redis:// or amqp:// for one without TLS",
    ),
    (
        (AuthenticationError, AccessRefused),
        "it refuses this user or password",
        "set both in TAGMILL_BROKER_URL, with '/', '@' and ':' in them as %2F, %40 and %3A",
    ),
    (
        (NotAllowed,),
        "it has no such virtual host, or not for this user",
        "rabbitmqctl add_vhost and set_permissions, or look at the end of TAGMILL_BROKER_URL",
    ),
    (
        (NoPermissionError,),
        "its user may not do what is needed",
        "allow the user of TAGMILL_BROKER_URL all keys, channels and commands (ACL SETUSER)",
    ),
    (
        (MasterNotFoundError,),
        "the Sentinels know no such master",
        "set TAGMILL_BROKER_MASTER to the name that they watch it by",
    ),
    (
        (BusyLoadingError,),
        "it is still loading its data",
        "wait until it has: tagmill doctor",
    ),
    (
        (InvalidResponse,),
        "what answers there is no Redis",
        "look at the port in TAGMILL_BROKER_URL; RabbitMQ's begins with amqp://",
    ),
    (
        (TimeoutError, RedisTimeout),
        f"it takes the connection and gives no answer within {ASK_S} s",
        "look whether it is stopped or overloaded, what kind of server TAGMILL_BROKER_URL names, "
        "and at firewalls",
    ),
)


def look_at_broker(settings: Settings, *, now: Callable[[], float]) -> Look:
    """Look at the broker that TAGMILL_BROKER_URL names."""
    look = Look()
    try:
        app: Any = celery_app(settings)  # Celery ships no types
        broker = Broker(settings)
    except TagmillError as error:
        look.ill(WHAT, str(error), "set TAGMILL_BROKER_URL, as redis://host:6379/0")
        return look
    is_redis = broker.is_redis
    names = ("socket_connect_timeout", "socket_timeout") if is_redis else _AMQP_TIMEOUTS
    options = app.conf.broker_transport_options | dict.fromkeys(names, ASK_S)
    alarms: list[str] = []
    if not is_redis:
        options["on_blocked"] = alarms.append
    try:
        with app.connection_for_write(transport_options=options, connect_timeout=ASK_S) as made:
            made.ensure_connection(max_retries=1, interval_start=0, timeout=ASK_S)
            if is_redis:
                look_at_redis(look, made.default_channel.client, broker.name, now=now)
            else:
                look_at_rabbit(look, made, app.conf.task_queues, broker.name, alarms=alarms)
            if look.is_well:
                _count(look, made, queue_name(settings, LABEL_QUEUE))
    except _ERRORS as error:
        said, mend = _reason(error)
        look.ill(WHAT, f"{broker.name}: {said}", mend)
    finally:
        broker.close()
        app.close()
    return look


def _count(look: Look, connection: Any, name: str) -> None:
    try:
        channel = connection.channel()
        look.messages = int(channel.queue_declare(queue=name, passive=True).message_count)
    except connection.channel_errors:
        look.messages = 0  # no such queue yet
    look.well(WHAT, f"{look.messages:,} messages wait to be labelled")


def _reason(error: Exception) -> tuple[str, str]:
    found = list(causes(error))
    for kinds, said, mend in _REASONS:
        if any(isinstance(each, kinds) for each in found):
            return said, mend
    why = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KombuError | OSError | AMQPError):
        return (
            f"it ends the connection ({why})",
            "look what kind of server listens on the port of TAGMILL_BROKER_URL, and at its log",
        )
    return f"it refuses ({why})", "look at TAGMILL_BROKER_URL, and at the server's log"
