"""The doctor against brokers that are made wrong on purpose, and against clocks."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from bench import services
from kombu import Connection
from support.brokers import RABBIT, rabbitmq, sentinel, tls_before, valkey
from support.doctor import answering, found, ill, notes, said, with_broker, with_store
from support.rabbit import own_rabbitmq

from tagmill.broker import Broker
from tagmill.contract import LABEL_QUEUE, ChunkMessage
from tagmill.doctor import Health
from tagmill.errors import BrokerAway
from tagmill.settings import Settings, load_settings


def test_sound_broker_is_well_and_says_what_it_is(settings: Settings, tmp_path: Path) -> None:
    with valkey(tmp_path, "--appendonly", "yes") as port:
        there = with_broker(settings, f"redis://127.0.0.1:{port}/0")
        sender = Broker(there)
        sender.send([ChunkMessage(job="j", seq=0)])
        sender.close()
        findings = found(there, "broker")
        assert {finding.health for finding in findings} == {Health.WELL}
        told = said(findings, Health.WELL)
        assert "Valkey 9." in told
        assert "1 messages wait" in told


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:hush@127.0.0.1:1/0", "nothing listens there"),
        ("amqp://u:hush@127.0.0.1:1//", "nothing listens there"),
        ("redis://:hush@no-such-host.invalid:1/0", "nobody knows its host's name"),
        ("amqp://u:hush@no-such-host.invalid:1//", "nobody knows its host's name"),
        ("redis+socket:///nowhere/socket", "no such socket"),
        ("nonsense://:hush@h", "of no kind that tagmill knows"),
    ],
)
def test_broker_that_is_not_there_is_said_with_the_reason(
    settings: Settings, url: str, words: str
) -> None:
    assert words in ill(with_broker(settings, url), "broker")


def test_wrong_password_is_said_of_each_broker(settings: Settings, tmp_path: Path) -> None:
    with valkey(tmp_path, "--requirepass", "right", password="right") as port:
        for url in (f"redis://:hush@127.0.0.1:{port}/0", f"redis://127.0.0.1:{port}/0"):
            assert "refuses this user or password" in ill(with_broker(settings, url), "broker")
    with rabbitmq():
        wrong = with_broker(settings, "amqp://guest:hush@127.0.0.1:5672//")
        assert "refuses this user or password" in ill(wrong, "broker")
        elsewhere = with_broker(settings, "amqp://guest:guest@127.0.0.1:5672/none")
        assert "no such virtual host" in ill(elsewhere, "broker")


def test_user_without_rights_is_said(settings: Settings, tmp_path: Path) -> None:
    users = ("--user", "mill", "on", ">hush", "~*", "&*", "+@all", "-@dangerous", "-time")
    with valkey(tmp_path, *users) as port:
        there = with_broker(settings, f"redis://mill:hush@127.0.0.1:{port}/0")
        assert "may not ask for more" in notes(there, "broker")
    with valkey(tmp_path, "--user", "mill", "on", ">hush", "~*", "&*", "+select") as port:
        there = with_broker(settings, f"redis://mill:hush@127.0.0.1:{port}/0")
        assert "may not do what is needed" in ill(there, "broker")


def test_tls_that_cannot_be_verified_or_is_not_spoken_is_said(
    settings: Settings, tmp_path: Path
) -> None:
    with valkey(tmp_path) as port, tls_before(port, tmp_path) as (tls_port, authority):
        url = f"rediss://127.0.0.1:{tls_port}/0"
        assert "TAGMILL_BROKER_CA" in ill(with_broker(settings, url), "broker")
        assert not ill(with_broker(settings, url, broker_ca=authority), "broker")
    with answering(b"-ERR unknown\r\n") as port:
        plain = with_broker(settings, f"rediss://127.0.0.1:{port}/0")
        assert "speaks no TLS" in ill(plain, "broker")


def test_what_is_no_redis_or_is_still_loading_is_said(settings: Settings) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        there = with_broker(settings, f"redis://127.0.0.1:{port}/0")
        assert "is no Redis" in ill(there, "broker")
    with answering(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        there = with_broker(settings, f"redis://127.0.0.1:{port}/0")
        assert "still loading" in ill(there, "broker")


def test_broker_that_is_paused_is_said_within_seconds(settings: Settings, tmp_path: Path) -> None:
    with services.valkey(tmp_path) as (port, process):
        process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            there = with_broker(settings, f"redis://127.0.0.1:{port}/0")
            assert "no answer within 3 s" in ill(there, "broker")
            assert time.monotonic() - began < 30
        finally:
            process.send_signal(signal.SIGCONT)


def test_broker_that_would_lose_messages_is_said(settings: Settings, tmp_path: Path) -> None:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with valkey(tmp_path, *options) as port, redis.Redis(port=port) as client:
        there = with_broker(settings, f"redis://127.0.0.1:{port}/0")
        findings = found(there, "broker")
        assert "allkeys-lru: near its limit it throws messages away" in said(findings, Health.ILL)
        assert "keeps nothing on disk" in said(findings, Health.NOTE)
        client.config_set("maxmemory-policy", "volatile-lru")
        client.config_set("save", "60 1")
        findings = found(there, "broker")
        assert not said(findings, Health.ILL)
        assert "volatile-lru" in said(findings, Health.NOTE)
        assert "on disk" not in said(findings, Health.NOTE)
        client.config_set("maxmemory-policy", "noeviction")
        used = client.info()["used_memory"]
        client.config_set("maxmemory", int(used * 1.05))
        assert "it uses" in notes(there, "broker")
        client.config_set("maxmemory", used // 2)
        assert "it uses" in ill(there, "broker")


def test_master_behind_sentinels_is_looked_at(settings: Settings, tmp_path: Path) -> None:
    with valkey(tmp_path) as port, sentinel(tmp_path, port, "mill") as own:
        url = f"sentinel://127.0.0.1:{own}/0"
        assert "TAGMILL_BROKER_MASTER" in ill(with_broker(settings, url), "broker")
        there = with_broker(settings, url, broker_master="mill")
        assert "Valkey" in said(found(there, "broker"), Health.WELL)
        wrong = with_broker(settings, url, broker_master="other")
        assert "no such master" in ill(wrong, "broker")


def test_replica_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "master").mkdir()
    (tmp_path / "replica").mkdir()
    with (
        valkey(tmp_path / "master") as master,
        valkey(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master)) as port,
    ):
        there = with_broker(settings, f"redis://127.0.0.1:{port}/0")
        assert "is a replica" in ill(there, "broker")


def test_rabbitmq_is_well_and_a_queue_of_another_kind_is_said(settings: Settings) -> None:
    with rabbitmq() as rabbit:
        there = with_broker(settings, RABBIT, namespace=rabbit.namespace)
        findings = found(there, "broker")
        assert not said(findings, Health.ILL)
        assert "RabbitMQ" in said(findings, Health.WELL)
        with Connection(RABBIT) as connection:
            channel = connection.default_channel
            name = f"{rabbit.namespace}.{LABEL_QUEUE}"
            with pytest.raises(connection.channel_errors):  # the doctor made none
                channel.queue_declare(name, passive=True)
            connection.channel().queue_declare(name, durable=True, auto_delete=False)
        assert f"rabbitmqctl delete_queue {name}" in ill(there, "broker")


def test_alarm_of_rabbitmq_is_said_and_a_producer_hears_of_it_in_time(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmill.broker.AMQP_TIMEOUT_S", 1)
    with own_rabbitmq(tmp_path) as rabbit:
        there = with_broker(settings, rabbit.url)
        sender = Broker(there)
        sender.send([ChunkMessage(job="j", seq=0)])
        assert not ill(there, "broker")
        rabbit.raise_alarm()
        assert "takes no messages: it raised an alarm" in ill(there, "broker")
        with pytest.raises(BrokerAway, match="it raised an alarm"):
            sender.send([ChunkMessage(job="j", seq=seq) for seq in range(1, 10)])
        rabbit.clear_alarm()
        assert not ill(there, "broker")
        sender.send([ChunkMessage(job="j", seq=10)])
        sender.close()


def test_clocks_that_are_apart_are_said_by_how_much(
    settings: Settings, postgres_url: str, tmp_path: Path
) -> None:
    with valkey(tmp_path) as port:
        there = with_store(with_broker(settings, f"redis://127.0.0.1:{port}/0"), postgres_url)
        assert not notes(there, "clocks")
        assert len(found(there, "clocks")) == 2
        told = notes(there, "clocks", now=lambda: time.time() - 600)
        assert "the broker's clock is 600.0 s ahead" in told
        assert "the store's clock is 600.0 s ahead" in told
        assert "leases go by the store's alone" in told


def test_clock_of_s3_is_looked_at(settings: Settings, bucket: Any) -> None:
    there = load_settings(**{**settings.model_dump(), "buckets": (bucket.name,)})
    assert not notes(there, "clocks")
    assert "15 minutes" in notes(there, "clocks", now=lambda: time.time() + 600)
    assert "the clock of S3 is" in ill(there, "clocks", now=lambda: time.time() + 1000)
