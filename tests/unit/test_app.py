"""The composition root of a worker: what it makes of errors, and of settings."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest
from kombu.asynchronous import Hub
from kombu.transport.virtual import Message

from tagmill.broker import Broker
from tagmill.contract import LABEL_QUEUE, TRAIN_QUEUE, ChunkMessage
from tagmill.settings import load_settings
from tagmill_worker.app import CPU_LANE_BYTES, _lane_bytes, send_or_leave
from tagmill_worker.consumer import heeding_signals, is_stray
from tagmill_worker.devices import Gpu
from tagmill_worker.lane_files import LaneFile
from tagmill_worker.slots import Slot
from tagmill_worker.tasks import parse_message

GPU = Gpu(index=0, mig=None, uuid="GPU-1", name="X")


def raised_by(call: object, *arguments: object) -> Exception:
    try:
        call(*arguments)  # type: ignore[operator]
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def test_what_is_no_message_is_told_from_a_fault_of_ours() -> None:
    stray = raised_by(Message, 7, None)
    assert is_stray(stray)
    assert is_stray(stray, ("kombu.transport",))
    elsewhere = raised_by(json.loads, "[")
    assert is_stray(elsewhere)
    assert not is_stray(elsewhere, ("kombu.transport",))
    assert not is_stray(raised_by(parse_message, None))


def test_messages_that_no_broker_takes_are_left_to_the_tick(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker(load_settings(broker_url="redis://127.0.0.1:1/0"))
    send_or_leave(broker, [ChunkMessage(job="j", seq=0), ChunkMessage(job="j", seq=1)])
    broker.close()
    assert "the tick names 2 chunks, their messages were not sent: the broker redis" in caplog.text


@pytest.mark.parametrize(
    ("queue", "gpu", "given", "limit"),
    [
        (LABEL_QUEUE, None, None, CPU_LANE_BYTES),
        (LABEL_QUEUE, GPU, None, None),
        (TRAIN_QUEUE, None, None, None),
        (TRAIN_QUEUE, GPU, None, None),
        (LABEL_QUEUE, GPU, 1 << 30, 1 << 30),
        (TRAIN_QUEUE, None, 1 << 30, 1 << 30),
    ],
)
def test_lane_that_labels_on_a_cpu_has_a_limit_of_memory_where_none_is_set(
    queue: str, gpu: Gpu | None, given: int | None, limit: int | None
) -> None:
    slot = Slot(queue=queue, lanes=(LaneFile("lane"),), gpu=gpu)
    assert _lane_bytes(load_settings(lane_bytes=given), slot) == limit


class FakeConsumer:
    """What the loop of a consumer needs."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub


def test_signal_to_end_is_heeded_between_two_events_and_not_within_one() -> None:
    hub, heard = Hub(), []

    def handler(signum: int, _: object) -> None:
        heard.append((signum, is_busy.locked()))

    def loop(_: FakeConsumer) -> None:
        with is_busy:  # as amqp's client while it writes
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == []
        rounds = hub.create_loop()
        while not heard:
            next(rounds)

    is_busy = threading.Lock()
    before = signal.signal(signal.SIGTERM, handler)
    try:
        heeding_signals(loop, FakeConsumer(hub))
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
        hub.close()
    assert heard == [(signal.SIGTERM, False)]


def test_signal_that_comes_as_the_loop_ends_is_not_forgotten() -> None:
    hub, heard = Hub(), []

    def loop(_: FakeConsumer) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ConnectionError("the broker is away")

    before = signal.signal(signal.SIGTERM, lambda signum, _: heard.append(signum))
    try:
        with pytest.raises(ConnectionError):
            heeding_signals(loop, FakeConsumer(hub))
    finally:
        signal.signal(signal.SIGTERM, before)
        hub.close()
    assert heard == [signal.SIGTERM]
