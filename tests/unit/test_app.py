"""The composition root of a worker: what it makes of errors, and of settings."""

from __future__ import annotations

import pytest

from tagmill.broker import Broker
from tagmill.contract import ChunkMessage
from tagmill.settings import load_settings
from tagmill_worker.app import send_or_leave


def test_messages_that_no_broker_takes_are_left_to_the_tick(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker(load_settings(broker_url="redis://127.0.0.1:1/0"))
    send_or_leave(broker, [ChunkMessage(job="j", seq=0), ChunkMessage(job="j", seq=1)])
    broker.close()
    assert "the tick names 2 chunks, their messages were not sent: the broker redis" in caplog.text
