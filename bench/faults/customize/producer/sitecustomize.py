"""Kills a producer at one exact moment, and makes its pages small.

Python imports this module at its start where its folder is on PYTHONPATH. The moment is in
FAULT_MOMENT, as ``append 2 inside``; the items of a page are in FAULT_PAGE_ITEMS.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tagmill.enqueue
from tagmill.broker import Broker
from tagmill.contract import ChunkMessage
from tagmill.store import ledger
from tagmill.store.jobs import Jobs

tagmill.enqueue.PAGE_ITEMS = int(os.environ["FAULT_PAGE_ITEMS"])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wrap(owner: Any, name: str, *, nth: int, die_first: bool) -> None:
    """Die before or after the n-th call of a function."""
    inner: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and die_first:
            _die()
        done = inner(*arguments, **options)
        if calls == nth:
            _die()
        return done

    setattr(owner, name, wrapped)


def _wrap_sending(nth: int) -> None:
    """Die when half of the n-th messages are sent."""
    inner = Broker.send
    calls = 0

    def wrapped(self: Broker, messages: Iterable[ChunkMessage]) -> None:
        nonlocal calls
        calls += 1
        given = list(messages)
        inner(self, _half(given) if calls == nth else given)

    Broker.send = wrapped  # type: ignore[method-assign]


def _half(messages: list[ChunkMessage]) -> Iterator[ChunkMessage]:
    yield from messages[: (len(messages) + 1) // 2]
    _die()


def _install(what: str, nth: int, when: str) -> None:
    if (what, when) == ("send", "inside"):
        _wrap_sending(nth)
        return
    owner, name = {
        ("job", "after"): (Jobs, "create"),
        ("append", "before"): (ledger.Ledger, "append"),
        ("append", "inside"): (ledger, "insert_chunks"),  # the last part of its transaction
        ("append", "after"): (ledger.Ledger, "append"),
        ("send", "after"): (Broker, "send"),
    }[what, when]
    _wrap(owner, name, nth=nth, die_first=when == "before")


if moment := os.environ.get("FAULT_MOMENT"):
    _what, _nth, _when = moment.split()
    _install(_what, int(_nth), _when)
