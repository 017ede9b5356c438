"""The ledger hears of a lane that is lost before its message goes back, or the worker goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from billiard import active_children
from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded
from celery import Celery
from kombu import Connection
from support.ledger import claim, job_with

from tagmill.contract import LABEL_TASK, ChunkMessage
from tagmill.errors import StoreAway, UsageError
from tagmill.store import Store
from tagmill_worker.hands import Hand, hands
from tagmill_worker.lost import LostLanes
from tagmill_worker.slots import plain_slot
from tagmill_worker.tasks import _request_class
from tagmill_worker.watchdog import Watchdog

PID = 41


@pytest.fixture
def hand() -> Hand:
    (made,) = hands(1)
    made.open(PID)
    made.claimed(PID, 1)
    return made


def lost_lanes(
    hand: Hand,
    open_store: Callable[[], Store],
    send: Callable[[Sequence[ChunkMessage]], None] = lambda _: None,
    telling_s: float = 20.0,
) -> LostLanes:
    watchdog = Watchdog([hand], item_timeout_s=3, lane_bytes=None)
    return LostLanes(
        plain_slot(1), [hand], watchdog, open_store=open_store, send=send, telling_s=telling_s
    )


def info_of(error: Exception) -> ExceptionInfo:
    try:
        raise error
    except type(error):
        return ExceptionInfo()


def test_item_in_hand_is_told_and_messages_are_sent(
    store: Store, store_url: str, hand: Hand, tmp_path: Path
) -> None:
    job = job_with(store, 4)
    claim(store, job)
    sent = tmp_path / "sent"  # by another process

    def send(messages: Sequence[ChunkMessage]) -> None:
        sent.write_text(" ".join(str(message.seq) for message in messages))

    with hand.holding(2):
        lost = lost_lanes(hand, lambda: Store(store_url), send)
        lost.note(ChunkMessage(job=job.id, seq=0), pid=PID, why="killed by SIGABRT")
    assert sent.read_text() == "1 2"
    assert [item.n for item in claim(store, job, 2).items] == [2]


def test_loss_is_told_before_the_message_goes_back(
    store: Store, store_url: str, hand: Hand
) -> None:
    """Of a chunk whose time is over. Else its next lane had it before, and the tale were stale."""
    job = job_with(store, 4)
    claim(store, job)
    app = Celery("test", broker="memory://", set_as_current=False)
    app.conf.update(task_acks_on_timeout=False)
    lost = lost_lanes(hand, lambda: Store(store_url))

    @app.task(name=LABEL_TASK, Request=_request_class(lost), acks_late=True)
    def label(**_: object) -> None: ...

    went_back: list[int] = []

    def go_back(*_: object) -> None:
        went_back.append(store.jobs.get(job.id).chunks)

    body = [[], ChunkMessage(job=job.id, seq=0).as_kwargs(), {}]
    with Connection("memory://") as connection:
        queue = connection.SimpleQueue("test")
        headers = {"task": LABEL_TASK, "id": "1", "lang": "py"}
        queue.put(body, headers=headers)
        request = label.Request(queue.get(timeout=5), on_reject=go_back, app=app, task=label)
        queue.close()
    request.on_accepted(PID, time.monotonic())
    with hand.holding(2):
        request.on_failure(info_of(TimeLimitExceeded(600)))
    assert went_back == [3], "one chunk, and the two that take its place"
    app.close()


def test_store_that_does_not_answer_holds_up_the_worker_for_a_moment_only(
    hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    def hangs() -> Store:
        threading.Event().wait()
        raise AssertionError

    lost = lost_lanes(hand, hangs, telling_s=0.2)
    began = time.monotonic()
    lost.note(ChunkMessage(job="j", seq=0), pid=PID, why="killed by SIGKILL")
    assert time.monotonic() - began < 10
    assert "not noted, its chunk's lease runs out" in caplog.text
    assert active_children() == []


@pytest.mark.parametrize("error", [StoreAway("away"), UsageError("no")])
def test_store_that_cannot_be_told_ends_nothing(hand: Hand, error: Exception) -> None:
    def fails() -> Store:
        raise error

    lost_lanes(hand, fails).note(ChunkMessage(job="j", seq=0), pid=PID, why="killed by SIGKILL")
    lost_lanes(hand, fails).note(ChunkMessage(job="j", seq=0), pid=PID + 1, why="not one of ours")
