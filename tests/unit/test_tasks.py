"""The Celery side of a lane, without a broker."""

from __future__ import annotations

import os
import signal

import pytest
from billiard.common import human_status
from billiard.exceptions import TimeLimitExceeded, WorkerLostError

from tagmill.contract import ListMessage
from tagmill.errors import MessageError, StoreError
from tagmill.training import TrainMessage
from tagmill_worker.signals import killed_by
from tagmill_worker.tasks import (
    End,
    _why_lost,
    parse_list_message,
    parse_message,
    parse_train_message,
)


def test_lane_that_ends_its_worker_leaves_word_of_it() -> None:
    """The worker's process is this test's; the lane is forked from it, as Celery forks one."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: came.append(signum))
    try:
        end = End()
        assert not end.was_asked_for
        lane = os.fork()
        if lane == 0:
            end.ask(StoreError("away"))
            os._exit(0)
        os.waitpid(lane, 0)
        assert end.was_asked_for
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_lane_whose_worker_is_gone_ends_nobody_else() -> None:
    end = End()
    end._pid = os.getppid() + 1_000_000
    end.ask(StoreError("away"))
    assert end.was_asked_for


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            WorkerLostError(f"Worker exited prematurely: {human_status(-11)} Job: 7."),
            "killed by SIGSEGV",
        ),
        (
            WorkerLostError(f"Worker exited prematurely: {human_status(-1)} Job: 7."),
            "killed by SIGHUP",
        ),
        (
            WorkerLostError(f"Worker exited prematurely: {human_status(-6)} Job: 7."),
            "killed by SIGABRT",
        ),
        (
            WorkerLostError(f"Worker exited prematurely: {human_status(-40)} Job: 7."),
            "killed by signal 40",
        ),
        (
            WorkerLostError(f"Worker exited prematurely: {human_status(70)} Job: 7."),
            "its process ended with exit code 70",
        ),
        (WorkerLostError("ChannelClosed()"), "its process ended"),
        (TimeLimitExceeded(600), "its chunk took longer than 600 s"),
        (ValueError("signal 11"), None),
    ],
)
def test_why_a_lane_was_lost_is_told_in_our_words(error: Exception, why: str | None) -> None:
    assert _why_lost(error) == why


def test_signals_have_names_where_they_have_some() -> None:
    assert [killed_by(signum) for signum in (9, 40)] == ["killed by SIGKILL", "killed by signal 40"]


NESTED: list[object] = []
for _ in range(100_000):  # of which Python writes no repr
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"v": 1, "job": "j"},
        {"v": 2, "job": "j", "seq": 0},
        {"v": True, "job": "j", "seq": 0},
        {"v": 1, "job": "../x", "seq": 0},
        {"v": 1, "job": 7, "seq": 0},
        {"v": 1, "job": "j", "seq": -1},
        {"v": 1, "job": "j", "seq": 1.5},
        {"v": 1, "job": "j", "seq": 2**63},
        {"v": 1, "job": "j" * 33, "seq": 0},
        {"v": 1, "job": "j", "seq": 0, "more": 1},
        {"v": 1, "job": "j", "seq": 0, "x" * 100_000: 1},
        {"v": 10**5000, "job": "j", "seq": 0},
        {"v": 1, "job": 10**5000, "seq": 0},
        {"v": 1, "job": "j", "seq": 10**5000},
        {"v": "x" * 100_000, "job": "j", "seq": 0},
        {"v": 1, "job": NESTED, "seq": 0},
    ],
)
def test_message_that_is_not_ours_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(MessageError) as refused:
        parse_message(body)
    assert len(str(refused.value)) < 300, "it becomes a line of the log"


def test_messages_for_listings_and_trainings_are_read_as_strictly() -> None:
    listing = ListMessage(job="261126-abcdef")
    assert parse_list_message(listing.as_kwargs()) == listing
    training = TrainMessage(training="t261126-abcdef")
    assert parse_train_message(training.as_kwargs()) == training
    for wrong in (
        {},
        {"v": 1, "job": "j"},
        {"v": 2, "training": "t"},
        {"v": 1, "training": "../t"},
    ):
        with pytest.raises(MessageError):
            parse_train_message(wrong)
    with pytest.raises(MessageError):
        parse_list_message({"v": 1, "job": "j", "seq": 0})
