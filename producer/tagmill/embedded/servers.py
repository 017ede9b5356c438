"""Broker and worker of a run together, started by the first message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from pydantic import SecretStr

from tagmill.contract import Message
from tagmill.embedded.broker import EmbeddedBroker
from tagmill.embedded.worker import EmbeddedWorker
from tagmill.settings import Settings
from tagmill.state_folder import StateFolder

if TYPE_CHECKING:
    from tagmill.broker import Broker

STOP_GRACE_S = 30.0
"""That lanes have to finish the chunks in hand."""

_ROOM_CHECK_S = 1.0


class Servers(AbstractContextManager["Servers"]):
    """The embedded broker and worker, started by the first message.

    Args:
        settings: with the roots that lanes may read under.
        folder: locked by the caller.
        words: as `EmbeddedWorker` takes them.
    """

    def __init__(self, settings: Settings, folder: StateFolder, *, words: Sequence[str]) -> None:
        self._broker = EmbeddedBroker(folder)
        url = SecretStr(self._broker.url)
        self._settings = settings.model_copy(update={"broker_url": url, "namespace": ""})
        self._worker = EmbeddedWorker(self._settings, folder, words=words)
        self._sender: Broker | None = None
        self._folder = folder
        self._room_checked_at = 0.0

    def send(self, messages: Sequence[Message]) -> None:
        """Send messages, starting the servers before the first.

        Raises:
            BrokerError: if the broker does not start or takes no message.
        """
        if not messages:
            return
        if self._sender is None:
            self._sender = self._start()
        self._sender.send(messages)

    def _start(self) -> Broker:
        self._broker.forget()
        self._worker.start()
        # The worker takes longest to come up: broker and Celery come up beside it.
        from tagmill.broker import Broker

        try:
            self._broker.start()
        except BaseException:
            self._worker.stop(grace_s=0.0)  # it has nothing in hand
            raise
        return Broker(self._settings)

    def check(self) -> None:
        """Look whether all is well.

        Raises:
            WorkerStopped: if the worker ended.
            BrokerError: if the broker did.
            StoreFull: if the room under the state folder is running out.
        """
        now = time.monotonic()
        if now - self._room_checked_at > _ROOM_CHECK_S:
            self._room_checked_at = now
            self._folder.check_room()
        self._worker.check()
        self._broker.check()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop what was started.

        After trouble, lanes may finish the chunks that they have in hand. After the end of the job
        there are none, and a worker would take its time to find that out.
        """
        try:
            self._worker.stop(grace_s=0.0 if kind is None else STOP_GRACE_S)
        finally:
            if self._sender is not None:
                self._sender.close()
            self._broker.stop()
