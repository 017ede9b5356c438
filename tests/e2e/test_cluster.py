"""A cluster as a user runs it: a producer, workers, a broker and a store of their own."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.brokers import RABBIT, rabbitmq, valkey
from support.command import Tagmill
from support.polling import until
from support.worker import Worker

from tagmill.broker import Broker
from tagmill.contract import ChunkMessage
from tagmill.settings import load_settings


@pytest.fixture
def on_redis(cluster: Tagmill, postgres_url: str, tmp_path: Path) -> Iterator[Tagmill]:
    """A cluster of a Valkey and a PostgreSQL."""
    with valkey(tmp_path) as port:
        cluster.environment |= {
            "TAGMILL_BROKER_URL": f"redis://127.0.0.1:{port}/0",
            "TAGMILL_STORE_URL": postgres_url,
        }
        yield cluster


@pytest.fixture
def on_rabbit(cluster: Tagmill, postgres_url: str) -> Iterator[Tagmill]:
    """A cluster of a RabbitMQ and a PostgreSQL."""
    with rabbitmq() as settings:
        cluster.environment |= {
            "TAGMILL_BROKER_URL": RABBIT,
            "TAGMILL_NAMESPACE": settings.namespace,
            "TAGMILL_STORE_URL": postgres_url,
        }
        yield cluster


@pytest.fixture(params=["on_redis", "on_rabbit"])
def any_cluster(request: pytest.FixtureRequest) -> Tagmill:
    made: Tagmill = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Sixty photographs."""
    made = tmp_path / "photos"
    made.mkdir()
    for photo in photos[:60]:
        (made / photo.name).symlink_to(photo)
    return made


def jobs(cluster: Tagmill) -> list[dict[str, object]]:
    return [json.loads(line) for line in cluster("status", "--json").stdout.splitlines()]


def labelled(cluster: Tagmill, *arguments: object) -> list[dict[str, object]]:
    done = cluster("results", *arguments)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_is_enqueued_is_labelled_by_workers_and_read_from_anywhere(
    any_cluster: Tagmill, folder: Path, photos: list[Path], classes: dict[str, str]
) -> None:
    cluster = any_cluster
    roots = ("--root", folder, "--root", photos[0].parent)
    with Worker(cluster, "--lanes", 1, *roots) as worker:
        done = cluster("enqueue", folder, "--exclude", "*n01440764*")
        job = done.stdout.strip()
        assert done.stdout == f"{job}\n", "the id and nothing else"
        watched = cluster("watch", job)
        assert f"job {job}: 59 labelled, 0 failed" in watched.stderr
        rows = labelled(cluster, job)
        assert len({row["uri"] for row in rows}) == len(rows) == 59
        right = [row for row in rows if row["labels"][0]["id"] in str(row["uri"])]  # type: ignore[index]
        assert len(right) > 45
        best = labelled(cluster, "--source", folder, "--min-score", "0.9")
        assert 0 < len(best) < 59
        (lane,) = [json.loads(line) for line in cluster("workers", "--json").stdout.splitlines()]
        assert lane["name"].startswith("label-cpu")
        assert lane["model"] == "mobilenet_v2@1"
        again = cluster("enqueue", folder)
        assert "1 to label, 59 known before" in again.stderr
        cluster("watch", again.stdout.strip())
        assert [row["ok"] for row in jobs(cluster)] == [1, 59]
        assert worker.end() == 0
        until(lambda: "no lane is alive" in cluster("workers").stderr)


def test_paused_job_waits_and_goes_on(on_redis: Tagmill, folder: Path) -> None:
    job = on_redis("enqueue", folder).stdout.strip()
    on_redis("pause", job)
    with Worker(on_redis, "--lanes", 1, "--root", folder, "--root", "/") as worker:
        worker.await_lanes(1)
        until(lambda: worker.log().count("nothing to do") >= 1)
        (row,) = jobs(on_redis)
        assert (row["state"], row["open"]) == ("paused", 60)
        on_redis("resume", job)
        on_redis("watch", job)
        (row,) = jobs(on_redis)
        assert (row["state"], row["ok"]) == ("done", 60)


def test_retry_and_cancel_work_on_a_cluster(on_redis: Tagmill, folder: Path) -> None:
    with Worker(on_redis, "--lanes", 1, "--root", folder):  # the photographs lie elsewhere
        job = on_redis("enqueue", folder).stdout.strip()
        on_redis("watch", job, "--strict", code=1)
        assert {row["error"] for row in labelled(on_redis, job)} == {"outside_roots"}
        on_redis("retry", job, "--code", "transient", code=2)
    with Worker(on_redis, "--lanes", 1, "--root", folder, "--root", "/"):
        on_redis("retry", job, "--code", "outside_roots")
        on_redis("watch", job, "--strict")
        assert {row["status"] for row in labelled(on_redis, job)} == {"ok"}
    waiting = on_redis("enqueue", folder, "--again").stdout.strip()
    on_redis("cancel", waiting)
    on_redis("enqueue", "--resume", waiting, code=2)
    on_redis("watch", waiting, code=3)


@pytest.mark.skipif(sys.platform != "linux", reason="cores are given on Linux only")
def test_two_workers_on_one_machine_share_its_cores(on_redis: Tagmill) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    with Worker(on_redis, "--lanes", 1) as first:
        first.await_lanes(1)
        with Worker(on_redis, "--lanes", 1) as second:
            until(lambda: len(second.lanes()) == 1)
            cores = [lane.cpu_affinity() for worker in (first, second) for lane in worker.lanes()]
            assert sorted(len(core) for core in cores) == [1, 1]
            assert cores[0] != cores[1]
            lanes = [json.loads(line) for line in on_redis("workers", "--json").stdout.splitlines()]
            assert len({lane["device"] for lane in lanes}) == 2


def test_worker_whose_broker_or_store_is_away_says_so(on_redis: Tagmill) -> None:
    away = on_redis("worker", code=3, TAGMILL_STORE_URL="postgresql+psycopg://x:hush@127.0.0.1:1/y")
    assert "the store" in away.stderr
    assert "hush" not in away.stderr
    none = on_redis("enqueue", ".", code=3, TAGMILL_BROKER_URL="redis://:hush@127.0.0.1:1/0")
    assert "does not answer" in none.stderr
    assert "hush" not in none.stderr


def test_messages_that_are_none_of_ours_do_not_end_a_worker(
    on_redis: Tagmill, folder: Path
) -> None:
    url = on_redis.environment["TAGMILL_BROKER_URL"]
    with Worker(on_redis, "--lanes", 1, "--root", "/") as worker, redis.from_url(url) as broker:
        worker.await_lanes(1)
        settings = load_settings(broker_url=url)
        sender = Broker(settings)
        on_redis("enqueue", folder, "--include", "*n01440764*")
        until(lambda: jobs(on_redis)[0]["state"] == "done")
        worker.end()
        sender.send([ChunkMessage(job="none", seq=0)])
        envelope = json.loads(broker.rpop("label:3"))
        sender.close()
        for body in ({"v": 1}, None, [], "text", [[], {}], 7):
            raw = base64.b64encode(json.dumps(body).encode()).decode()
            broker.lpush("label:3", json.dumps({**envelope, "body": raw}))
    with Worker(on_redis, "--lanes", 1, "--root", "/"):
        job = on_redis("enqueue", folder).stdout.strip()
        on_redis("watch", job)
        assert jobs(on_redis)[0]["ok"] == 59
