"""What strangers may put into a queue or a ledger, before a worker that goes on labelling."""

from __future__ import annotations

import base64
import bz2
import json
import pickle
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
import redis
from kombu import Connection
from support import hostile
from support.brokers import RABBIT, rabbitmq, valkey
from support.command import Tagmill
from support.hostile import Live
from support.polling import until
from support.worker import Worker

from tagmill.broker import Broker
from tagmill.contract import LABEL_TASK, ChunkMessage, Item
from tagmill.settings import load_settings
from tagmill.sources import file_uri
from tagmill.store import Page, Store

PICKLED = "application/x-python-serialize"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A folder that is there once one of the pickles was loaded."""
    pickle.loads(pickle.dumps(Live(tmp_path / "proof")))
    assert (tmp_path / "proof").is_dir()
    return tmp_path / "mark"


@pytest.fixture
def broker(cluster: Tagmill, tmp_path: Path) -> Iterator[redis.Redis]:
    """The cluster's Valkey."""
    with valkey(tmp_path) as port, redis.Redis(port=port) as client:
        cluster.environment["TAGMILL_BROKER_URL"] = f"redis://127.0.0.1:{port}/0"
        yield client


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """Ten photographs."""
    made = tmp_path / "photos"
    made.mkdir()
    for photo in photos[::20]:
        shutil.copyfile(photo, made / photo.name)
    return made


def rows(cluster: Tagmill, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cluster("results", job).stdout.splitlines()]


def check_goes_on(cluster: Tagmill, worker: Worker, folder: Path, lanes: list[int]) -> None:
    """The next job is labelled by the same lanes as before."""
    job = cluster("enqueue", folder).stdout.strip()
    cluster("watch", job, "--strict")
    assert len(rows(cluster, job)) == 10
    assert [lane.pid for lane in worker.lanes()] == lanes, worker.log()


def our_envelope(cluster: Tagmill, broker: redis.Redis) -> dict[str, Any]:
    """A message as tagmill sends it, taken from its queue; no lane may be waiting."""
    sender = Broker(load_settings(broker_url=cluster.environment["TAGMILL_BROKER_URL"]))
    sender.send([ChunkMessage(job="none", seq=0)])
    sender.close()
    sent: dict[str, Any] = json.loads(broker.rpop("label:3"))
    assert sent["headers"]["task"] == LABEL_TASK
    return sent


def with_body(envelope: dict[str, Any], body: object, **more: object) -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.dumps({**envelope, "body": base64.b64encode(data).decode(), **more})


def test_entries_of_a_redis_list_that_are_no_messages_do_not_end_a_worker(
    cluster: Tagmill, broker: redis.Redis, folder: Path, mark: Path
) -> None:
    with Worker(cluster, "--lanes", 1, "--root", folder) as worker:
        lanes = [lane.pid for lane in worker.await_lanes(1)]
        strays = [
            b"no json",
            pickle.dumps(Live(mark)),
            b"\xff\xfe\0",
            b"[" * 100_000,
            b"7",
            b"{}",
        ]
        for queue, stray in [*(("label", stray) for stray in strays), ("control", strays[0])]:
            broker.lpush(queue, stray)
            until(lambda queue=queue: broker.llen(queue) == 0)
        check_goes_on(cluster, worker, folder, lanes)
        assert worker.end() == 0
    assert not mark.exists()


def test_messages_of_other_kinds_do_not_end_a_worker_and_no_pickle_is_loaded(
    cluster: Tagmill, broker: redis.Redis, folder: Path, mark: Path
) -> None:
    envelope = our_envelope(cluster, broker)
    evil = pickle.dumps([[], {"v": 1, "job": Live(mark), "seq": 0}, {}])
    ours, links = {"v": 1, "job": "none", "seq": 0}, {"callbacks": None, "errbacks": None}
    foreign = {**envelope["headers"], "task": "os.system"}
    entries = [
        with_body(envelope, evil, **{"content-type": PICKLED, "content-encoding": "binary"}),
        with_body(envelope, evil),
        with_body(envelope, evil, **{"content-type": "application/data"}),
        with_body(envelope, b"\xff", **{"content-type": "application/x-yaml"}),
        with_body(envelope, [[], ours, links], headers=foreign),
        with_body(envelope, [["id"], {}, links], headers=foreign),
        *(
            with_body(
                envelope,
                packed(json.dumps([[], {**ours, "v": 3}, links]).encode()),
                headers={**envelope["headers"], "compression": kind},
            )
            for kind, packed in (("application/x-bz2", bz2.compress), ("zlib", zlib.compress))
        ),
        with_body(envelope, [[], {**ours, "v": 2}, links]),
        with_body(envelope, [[], {**ours, "more": "x" * (8 << 20)}, links]),
        with_body(envelope, [[], {**ours, "job": "../../etc"}, links]),
        with_body(envelope, [[1, 2], ours, links]),
        with_body(envelope, [[], {**ours, "task": 1, "self": 2}, links]),
        with_body(envelope, [[], ours, links], headers={}),
        with_body(envelope, [[], ours, links], headers=None),
        with_body(envelope, [[], ours, links], properties={}),
    ]
    with Worker(cluster, "--lanes", 1, "--root", folder) as worker:
        lanes = [lane.pid for lane in worker.await_lanes(1)]
        for entry in entries:
            broker.lpush("label:3", entry)
        until(lambda: broker.llen("label:3") == 0)
        check_goes_on(cluster, worker, folder, lanes)
        assert "of version 2, this lane reads 1" in worker.log()
        assert "of version 3" not in worker.log(), "what is compressed is not unpacked"
        assert "a message with the fields" in worker.log()
        assert max(map(len, worker.log().splitlines())) < 20_000, "none is logged whole"
        assert worker.end() == 0
    assert not mark.exists()


def test_messages_of_other_kinds_in_rabbitmq_do_not_end_a_worker(
    cluster: Tagmill, folder: Path, mark: Path
) -> None:
    ours = json.dumps([[], {"v": 2, "job": "none", "seq": 0}, {}])
    headers = {"task": LABEL_TASK, "id": "1", "lang": "py"}
    messages = [
        amqp.Message("no json"),
        amqp.Message(pickle.dumps(Live(mark))),
        amqp.Message(pickle.dumps(Live(mark)), content_type=PICKLED, content_encoding="binary"),
        amqp.Message(
            pickle.dumps([[], {"v": Live(mark)}, {}]),
            content_type=PICKLED,
            content_encoding="binary",
            application_headers=headers,
        ),
        amqp.Message("{", content_type="application/json", content_encoding="utf-8"),
        amqp.Message("[" * 100_000, content_type="application/json", content_encoding="utf-8"),
        amqp.Message(ours, content_type="application/json", content_encoding="utf-8"),
        amqp.Message(
            ours, content_type="application/json", content_encoding="utf-8",
            application_headers=headers,
        ),
        amqp.Message(
            ours.encode(), content_type="application/json", content_encoding="no such",
            application_headers=headers,
        ),
    ]  # fmt: skip
    with rabbitmq() as settings:
        cluster.environment |= {
            "TAGMILL_BROKER_URL": RABBIT,
            "TAGMILL_NAMESPACE": settings.namespace,
        }
        with (
            Worker(cluster, "--lanes", 1, "--root", folder) as worker,
            Connection(RABBIT) as connection,
        ):
            lanes = [lane.pid for lane in worker.await_lanes(1)]
            for queue in ("label", "control"):
                for message in messages:
                    connection.default_channel.basic_publish(
                        message, exchange="", routing_key=f"{settings.namespace}.{queue}"
                    )
            check_goes_on(cluster, worker, folder, lanes)
            assert "of version 2, this lane reads 1" in worker.log()
            assert worker.end() == 0
        sender = Broker(settings)
        assert sender.waiting("label") == sender.waiting("control") == 0
        sender.close()
    assert not mark.exists()


def test_a_chunk_that_a_stranger_wrote_into_the_ledger_leads_nowhere(
    cluster: Tagmill,
    broker: redis.Redis,
    folder: Path,
    bucket: Any,
    s3_server: dict[str, str],
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(hostile.jpeg())
    (folder / "link.jpg").symlink_to(secret)
    bucket.put_object(Key="secret.jpg", Body=hostile.jpeg())
    sound = sorted(folder.glob("n*.jpg"))[0]
    ends = {
        file_uri(str(sound)): None,
        file_uri(str(secret)): "outside_roots",
        f"file://{folder}/../secret.jpg": "outside_roots",
        f"file://{folder}/%2e%2e/secret.jpg": "outside_roots",
        f"file:///proc/self/root{secret}": "outside_roots",
        f"file:///proc/self/cwd{secret}": "not_found",
        file_uri(str(folder / "link.jpg")): "outside_roots",
        "file:///proc/self/environ": "outside_roots",
        "file:///dev/zero": "outside_roots",
        f"s3://{bucket.name}/secret.jpg": "outside_roots",
        f"s3://mine/../{bucket.name}/secret.jpg": "outside_roots",
        f"http://127.0.0.1/{bucket.name}/secret.jpg": "not_found",
        str(secret): "not_found",
        "": "not_found",
        "file:///" + "x" * 100_000: "not_found",
    }
    items = [Item(n=n, uri=uri, version="") for n, uri in enumerate(ends)]
    cluster.environment |= s3_server
    with Worker(cluster, "--lanes", 1, "--root", folder, TAGMILL_BUCKETS="mine,yours") as worker:
        lanes = [lane.pid for lane in worker.await_lanes(1)]
        store = Store(load_settings(state_dir=cluster.state).store_address)
        job = store.jobs.create(source="file:///x", model="mobilenet_v2@1", top_k=1)
        store.ledger.append(job.id, Page(chunks=[items], skipped=[], cursor=None))
        store.close()
        sender = Broker(load_settings(broker_url=cluster.environment["TAGMILL_BROKER_URL"]))
        sender.send([ChunkMessage(job=job.id, seq=0)])
        sender.close()
        cluster("watch", job.id)
        assert {row["uri"]: row["error"] for row in rows(cluster, job.id)} == ends
        (folder / "link.jpg").unlink()
        check_goes_on(cluster, worker, folder, lanes)
        assert worker.end() == 0
