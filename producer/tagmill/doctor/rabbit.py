"""RabbitMQ as a broker: its version, its queues, and whether it takes messages at all."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed

from tagmill.doctor.findings import ASK_S, Look

WHAT = "broker"

LEAST_VERSION = (3, 10)
"""The first whose quorum queues do all that is asked of them here."""

PRIORITIES_FROM = (4, 0)
"""The first whose quorum queues know priorities."""


ALARM_S = 0.3
"""Within which it tells of an alarm, as it does once it was sent a message."""


def look_at_rabbit(
    look: Look, connection: Any, queues: Sequence[Any], name: str, *, alarms: Sequence[str]
) -> None:
    """Look at a RabbitMQ.

    Args:
        look: gets the findings.
        connection: Kombu's.
        queues: that are to be there, or to be made.
        name: of the broker, for people.
        alarms: gets what the connection is told of alarms.
    """
    number = str(connection.connection.server_properties.get("version", "0"))
    parts = tuple(int(part) for part in number.split(".")[:2] if part.isdecimal())
    if parts < LEAST_VERSION:
        look.ill(WHAT, f"RabbitMQ {number} is too old, the least is 3.10", "install a newer one")
    elif parts < PRIORITIES_FROM:
        look.note(
            WHAT,
            f"RabbitMQ {number} knows no priorities in quorum queues: --priority does nothing",
            "install RabbitMQ 4.0 or newer, where priorities are wanted",
        )
    for queue in queues:
        if not _is_of_our_kind(connection, queue):
            look.ill(
                WHAT,
                f"it has a queue {queue.name} of another kind",
                f"rabbitmqctl delete_queue {queue.name}, or set TAGMILL_NAMESPACE",
            )
    if look.is_well:
        _send_nothing(connection)
    if alarms:
        look.ill(
            WHAT,
            f"{name} takes no messages: it raised an alarm, for its memory or its disk",
            "rabbitmqctl status names the alarm: give it room, or a higher limit",
        )
    if look.is_well:
        look.well(WHAT, f"{name}, RabbitMQ {number}")


def _is_of_our_kind(connection: Any, queue: Any) -> bool:
    """True where a queue is as we would make it, or is not there and so is not made."""
    try:
        connection.channel().queue_declare(queue=queue.name, passive=True)
    except NotFound:
        return True
    try:
        connection.channel().queue_declare(
            queue=queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=queue.queue_arguments,
        )
    except PreconditionFailed:
        return False
    return True


def _send_nothing(connection: Any) -> None:
    """Send a message for a queue that nobody has, which is thrown away: alarms are told then."""
    channel = connection.channel()
    channel.basic_publish_confirm(
        channel.prepare_message(b""),
        exchange="",
        routing_key=f"tagmill-doctor-{uuid.uuid4().hex}",
        confirm_timeout=ASK_S,
    )
    with suppress(TimeoutError):
        connection.drain_events(timeout=ALARM_S)
