"""What a worker does with its messages and signals where Celery would hang, end or fall silent."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import socket
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from celery.worker import consumer, loops

log = logging.getLogger(__name__)

# What Celery and the broker's clients raise over what is no message: they check little of it.
_STRAY = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
_CLIENTS = ("kombu.transport", "kombu.connection", "kombu.mess", "amqp", "redis")


def heeding_signals(loop: Callable[..., None], consumer: Any, *arguments: Any) -> None:
    """Celery's loop, in which a signal to end is heeded between two events.

    Celery's handlers talk to the broker. Where a signal came while the loop did so too, the process
    waited for itself: with RabbitMQ for ever.
    """
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGQUIT)}
    asked: list[signal.Signals] = []

    def heed() -> None:
        with contextlib.suppress(BlockingIOError):
            woken.recv(64)
        if asked:
            give_back()
            signum = asked.pop()
            handle: Any = handlers[signum]  # of Celery, which ships no types
            handle(signum, None)

    def give_back() -> None:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)

    waking, woken = socket.socketpair()
    with waking, woken:
        for end in (waking, woken):
            end.setblocking(False)
        before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        consumer.hub.add_reader(woken.fileno(), heed)
        for signum in handlers:
            signal.signal(signum, lambda got, _: asked.append(signal.Signals(got)))
        try:
            loop(consumer, *arguments)
        finally:
            consumer.hub.remove_reader(woken.fileno())
            signal.set_wakeup_fd(before)
            give_back()
            heed()


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

    loop = staticmethod(partial(heeding_signals, loops.asynloop))

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
