"""The broker against real servers: Valkey with users, TLS and a Sentinel, and RabbitMQ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from amqp.exceptions import PreconditionFailed
from kombu import Connection
from support.brokers import RABBIT, rabbitmq, sentinel, tls_before, valkey
from support.polling import until

from tagmill.broker import Broker
from tagmill.celery_app import celery_app
from tagmill.contract import CONTROL_QUEUE, LABEL_QUEUE, ChunkMessage, Priority
from tagmill.errors import BrokerAway, BrokerError
from tagmill.scheduler import JITTER, Scheduler
from tagmill.settings import Settings, load_settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    with valkey(tmp_path) as port:
        yield port


@pytest.fixture
def rabbit() -> Iterator[Settings]:
    """A RabbitMQ, with queues of our own that go with the test."""
    with rabbitmq() as settings:
        yield settings


def seqs_taken(settings: Settings) -> list[int]:
    """Take every message that waits to be labelled, as a lane would, in the order of delivery."""
    app = celery_app(settings)
    taken: list[int] = []
    with app.connection_for_read() as connection:
        simple = connection.SimpleQueue(
            next(queue for queue in app.conf.task_queues if queue.name.endswith(LABEL_QUEUE))
        )
        while True:
            try:
                message = simple.get(block=True, timeout=1)
            except simple.Empty:
                break
            taken.append(message.payload[1]["seq"])
            message.ack()
        simple.close()
    return taken


def messages(
    count: int, priority: Priority = Priority.NORMAL, start: int = 0
) -> list[ChunkMessage]:
    return [
        ChunkMessage(job="j", seq=seq, priority=priority) for seq in range(start, start + count)
    ]


def check_delivery(settings: Settings) -> None:
    broker = Broker(settings)
    broker.check()
    broker.send(messages(3))
    assert broker.waiting(LABEL_QUEUE) == 3
    assert sorted(seqs_taken(settings)) == [0, 1, 2]
    assert broker.waiting(LABEL_QUEUE) == 0
    broker.close()


def test_valkey_delivers_what_is_sent(server: int) -> None:
    check_delivery(load_settings(broker_url=f"redis://127.0.0.1:{server}/0"))


def test_jobs_of_high_priority_are_taken_first(server: int) -> None:
    settings = load_settings(broker_url=f"redis://127.0.0.1:{server}/0")
    broker = Broker(settings)
    broker.send(messages(2, Priority.LOW, 20))
    broker.send(messages(2, Priority.NORMAL, 10))
    broker.send(messages(2, Priority.HIGH, 0))
    assert broker.waiting(LABEL_QUEUE) == 6
    assert seqs_taken(settings) == [0, 1, 10, 11, 20, 21]
    broker.close()


def test_two_namespaces_on_one_broker_do_not_meet(server: int) -> None:
    url = f"redis://127.0.0.1:{server}/0"
    one, two = (load_settings(broker_url=url, namespace=name) for name in ("one", "two"))
    sender = Broker(one)
    sender.send(messages(2))
    other = Broker(two)
    assert (sender.waiting(LABEL_QUEUE), other.waiting(LABEL_QUEUE)) == (2, 0)
    assert seqs_taken(two) == []
    sender.close()
    other.close()


def test_user_with_a_password_may_do_what_is_needed_and_another_is_refused(tmp_path: Path) -> None:
    users = ("--user", "mill", "on", ">secret", "~*", "&*", "+@all")
    with valkey(tmp_path, *users, "--requirepass", "other", password="other") as port:
        check_delivery(load_settings(broker_url=f"redis://mill:secret@127.0.0.1:{port}/0"))
        wrong = Broker(load_settings(broker_url=f"redis://mill:wrong@127.0.0.1:{port}/0"))
        with pytest.raises(BrokerError) as refused:
            wrong.check()
        assert "wrong" not in str(refused.value).replace("WRONGPASS", "")
        wrong.close()


def test_tls_is_spoken_and_the_server_is_verified(server: int, tmp_path: Path) -> None:
    with tls_before(server, tmp_path) as (port, authority):
        url = f"rediss://127.0.0.1:{port}/0"
        check_delivery(load_settings(broker_url=url, broker_ca=authority))
        strangers = Broker(load_settings(broker_url=url))
        with pytest.raises(BrokerError, match="certificate"):
            strangers.check()
        strangers.close()


def test_sentinel_leads_to_the_master(server: int, tmp_path: Path) -> None:
    with sentinel(tmp_path, server, "mill") as port:
        url = f"sentinel://127.0.0.1:{port}/0"
        check_delivery(load_settings(broker_url=url, broker_master="mill"))


def test_sentinel_without_the_masters_name_is_said() -> None:
    with pytest.raises(BrokerError, match="TAGMILL_BROKER_MASTER"):
        Broker(load_settings(broker_url="sentinel://127.0.0.1:1/0"))


def test_rabbitmq_delivers_what_is_sent_from_quorum_queues(rabbit: Settings) -> None:
    check_delivery(rabbit)
    name = f"{rabbit.namespace}.{LABEL_QUEUE}"
    with Connection(RABBIT) as connection, pytest.raises(PreconditionFailed, match="quorum"):
        connection.default_channel.queue_declare(name, durable=True, auto_delete=False)


def test_rabbitmq_takes_every_priority(rabbit: Settings) -> None:
    broker = Broker(rabbit)
    for n, priority in enumerate(Priority):
        broker.send(messages(1, priority, n))
    assert sorted(seqs_taken(rabbit)) == [0, 1, 2]
    broker.close()


def test_queue_that_is_not_there_yet_has_nothing_waiting(rabbit: Settings) -> None:
    broker = Broker(rabbit)
    assert broker.waiting(LABEL_QUEUE) == 0
    broker.close()


@pytest.mark.parametrize("url", ["redis://:hush@127.0.0.1:1/0", "amqp://u:hush@127.0.0.1:1//"])
def test_broker_that_is_away_is_said_without_its_password(url: str) -> None:
    broker = Broker(load_settings(broker_url=url))
    with pytest.raises(BrokerError, match="does not answer") as away:
        broker.check()
    assert "hush" not in str(away.value)
    with pytest.raises(BrokerError) as away:
        broker.send(messages(1))
    assert "hush" not in str(away.value)
    broker.close()


def test_messages_hold_job_and_number_and_no_more(server: int) -> None:
    settings = load_settings(broker_url=f"redis://127.0.0.1:{server}/0")
    broker = Broker(settings)
    broker.send(messages(1))
    with redis.Redis(port=server) as client:
        sent = json.loads(client.lindex("label:3", 0))
    assert sent["content-type"] == "application/json"
    assert len(json.dumps(sent)) < 2000
    broker.close()


def test_queue_of_another_kind_in_the_way_is_said(rabbit: Settings) -> None:
    name = f"{rabbit.namespace}.{LABEL_QUEUE}"
    with Connection(RABBIT) as connection:
        connection.default_channel.queue_declare(name, durable=True, auto_delete=False)
    broker = Broker(rabbit)
    with pytest.raises(BrokerError, match=r"another kind.*delete it, or set TAGMILL_NAMESPACE"):
        broker.send(messages(1))
    broker.close()


def test_password_is_left_out_of_the_name() -> None:
    for url, name in {
        "redis://127.0.0.1:1/0": "redis://127.0.0.1:1/0",
        "redis://:hush@h:1/0": "redis://@h:1/0",
        "amqp://user:hush@h:1//": "amqp://user@h:1//",
    }.items():
        assert Broker(load_settings(broker_url=url)).name == name


@pytest.mark.parametrize(
    "url",
    [
        "redis:/x", "nonsense", " ", "http://h/", "memory://", "valkey://h:1/0", "unix:///s",
        "redis://h:notaport/0", "redis://:se/cret@h:1/0", "sqla+sqlite:///x", "://", "amqp:",
    ],
)  # fmt: skip
def test_url_that_names_no_broker_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(BrokerError) as refused:
        Broker(load_settings(broker_url=url))
    assert "cret" not in str(refused.value)


def test_wrong_password_or_virtual_host_of_rabbitmq_is_said(rabbit: Settings) -> None:
    for url in ("amqp://guest:hush@127.0.0.1:5672//", "amqp://guest:guest@127.0.0.1:5672/none"):
        broker = Broker(load_settings(broker_url=url, namespace=rabbit.namespace))
        with pytest.raises(BrokerError) as refused:
            broker.check()
        assert "hush" not in str(refused.value)
        broker.close()


def test_setting_that_is_empty_is_unset() -> None:
    with pytest.raises(BrokerError, match="set TAGMILL_BROKER_URL"):
        Broker(load_settings(broker_url=""))


@contextmanager
def scheduler(port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tagmill", "scheduler", "--every", "0.1"],
            env={**os.environ, "TAGMILL_BROKER_URL": f"redis://127.0.0.1:{port}/0"},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_scheduler_goes_on_while_the_broker_is_away_and_says_so_in_a_line(tmp_path: Path) -> None:
    log = tmp_path / "scheduler.log"
    with ExitStack() as stack:
        with valkey(tmp_path) as port, redis.Redis(port=port) as client:
            stack.enter_context(scheduler(port, log))
            until(lambda: client.llen("control"))
        until(lambda: "no tick was sent: the broker redis://127.0.0.1" in log.read_text())
        assert "Traceback" not in log.read_text()


def test_ticks_do_not_pile_up_without_lanes_and_never_expire(server: int, tmp_path: Path) -> None:
    with redis.Redis(port=server) as client, scheduler(server, tmp_path / "log"):
        for _ in range(3):  # and another one comes once it is taken
            until(lambda: client.llen("control"))
            until(lambda: "one waits to be taken" in (tmp_path / "log").read_text())
            assert client.llen("control") == 1
            sent = json.loads(client.lpop("control"))
            assert sent["headers"]["expires"] is None, "else a worker's clock could drop it"


def test_one_tick_waits_on_rabbitmq_too(rabbit: Settings) -> None:
    broker = Broker(rabbit)
    assert broker.send_tick()
    until(lambda: broker.waiting(CONTROL_QUEUE))
    assert not broker.send_tick()
    assert broker.waiting(CONTROL_QUEUE) == 1
    broker.close()


def test_time_between_ticks_is_a_little_random_and_of_no_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = celery_app(load_settings(broker_url="redis://127.0.0.1:1/0"))
    made = Scheduler(app, send_tick=lambda: True, every_s=10.0, lazy=True)
    monkeypatch.setattr("time.time", lambda: 0.0)  # years back
    waits = [made.tick() for _ in range(100)]
    assert min(waits) >= 10 * (1 - JITTER)
    assert max(waits) <= 10 * (1 + JITTER)
    assert len(set(waits)) > 90


def test_what_another_try_may_mend_is_told_from_what_a_person_must(
    rabbit: Settings, tmp_path: Path
) -> None:
    away = Broker(load_settings(broker_url="redis://127.0.0.1:1/0"))
    with pytest.raises(BrokerAway):
        away.check()
    with pytest.raises(BrokerAway):
        away.send(messages(1))
    with valkey(tmp_path, "--requirepass", "right", password="right") as port:
        for url in (f"redis://:wrong@127.0.0.1:{port}/0", "amqp://guest:wrong@127.0.0.1:5672//"):
            refused = Broker(load_settings(broker_url=url, namespace=rabbit.namespace))
            with pytest.raises(BrokerError) as caught:
                refused.check()
            assert not isinstance(caught.value, BrokerAway)
            with pytest.raises(BrokerError) as caught:
                refused.send(messages(1))
            assert not isinstance(caught.value, BrokerAway)
            refused.close()
    away.close()
