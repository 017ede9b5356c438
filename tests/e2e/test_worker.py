"""`tagmill worker` on a machine of its own: its processes, their devices, and their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import hostile
from support.command import Tagmill
from support.polling import until
from support.worker import Worker

from tagmill.broker import Broker
from tagmill.contract import ChunkMessage, Item, JobState
from tagmill.embedded import EmbeddedBroker
from tagmill.settings import load_settings
from tagmill.sources import file_uri
from tagmill.state_folder import StateFolder
from tagmill.store import Page, Store

FAKE_NVML = Path(__file__).parents[1] / "support" / "fake_nvml"
GPUS = [{"uuid": "GPU-aa"}, {"uuid": "GPU-bb"}]


@pytest.fixture
def cluster(tagmill: Tagmill, tmp_path: Path) -> Iterator[Tagmill]:
    """The command with a broker that is not its own, and a folder of lane files of its own."""
    folder = StateFolder(tmp_path / "broker")
    lanes = tmp_path / "tmp"
    lanes.mkdir()
    with folder.locked():
        broker = EmbeddedBroker(folder)
        broker.start()
        tagmill.environment |= {
            "TAGMILL_BROKER_URL": broker.url,
            "TMPDIR": str(lanes),
            "PYTHONPATH": str(FAKE_NVML),
        }
        tagmill.environment.pop("CUDA_VISIBLE_DEVICES", None)
        yield tagmill
        broker.stop()


def test_worker_whose_lanes_cannot_be_made_ends_and_says_why(cluster: Tagmill) -> None:
    """Without the command before it, which would have refused such a registry."""
    words = ["worker", "--queues", "train", "--gpus", "none", "--lanes-per-gpu", "1"]
    ended = subprocess.run(
        [sys.executable, "-m", "tagmill_worker", *words],
        env={**cluster.environment, "TAGMILL_MODELS": "s3://"},
        cwd=cluster.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 3
    assert "the worker stops: TAGMILL_MODELS: 's3://' names no bucket" in ended.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="cores are given on Linux only")
def test_cpu_worker_is_one_process_tree_with_a_core_for_each_lane(cluster: Tagmill) -> None:
    count = len(os.sched_getaffinity(0))
    with Worker(cluster, "--lanes", count) as worker:
        assert worker.check("ready").returncode == 3
        lanes = worker.await_lanes(count)
        assert {lane.ppid() for lane in lanes} == {worker.pid}, "no process between"
        assert sorted(lane.cpu_affinity() for lane in lanes) == [
            [core] for core in sorted(os.sched_getaffinity(0))
        ]
        assert "no GPU: NVML Shared Library Not Found" in worker.log()
        assert worker.check("alive").returncode == 0
        lanes[0].kill()
        worker.await_lanes(count)
        assert worker.end() == 0
        done = worker.check("ready")
        assert (done.returncode, done.stdout) == (3, "not ready: no lane is at work\n")


def test_each_gpu_lane_sees_its_gpu_only_and_what_dies_is_started_again(cluster: Tagmill) -> None:
    with Worker(
        cluster,
        *("--gpus", "all", "--lanes-per-gpu", 1),
        FAKE_GPUS=json.dumps(GPUS),
        TAGMILL_CLASSIFIER="litert",  # there is no GPU that Keras could use
    ) as worker:
        lanes = worker.await_lanes(2)
        seen = {lane.environ()["CUDA_VISIBLE_DEVICES"]: lane for lane in lanes}
        assert set(seen) == {"GPU-aa", "GPU-bb"}
        slots = {psutil.Process(lane.ppid()) for lane in lanes}
        assert {slot.ppid() for slot in slots} == {worker.pid}
        for name, uuid in (("gpu0", "GPU-aa"), ("gpu1", "GPU-bb")):
            assert f"lane=label-{name}@" in worker.log()
            assert f"device=Fake 9000 {uuid} queues=label,control" in worker.log()

        psutil.Process(seen["GPU-bb"].ppid()).kill()
        until(lambda: not seen["GPU-bb"].is_running())
        again = worker.await_lanes(2)
        assert {lane.environ()["CUDA_VISIBLE_DEVICES"] for lane in again} == set(seen)
        assert seen["GPU-aa"] in again, "the other one goes on"
        assert "died: killed by SIGKILL" in worker.log()
        assert worker.end() == 0


def test_gpu_lane_labels_with_keras_and_is_one_process_where_it_is_alone(
    cluster: Tagmill,
) -> None:
    store = Store(f"sqlite:///{cluster.home / 'tagmill.db'}")
    store.prepare()
    names = [f"{n}.jpg" for n in range(20)]
    for n, name in enumerate(names):
        (cluster.home / name).write_bytes(hostile.jpeg(hostile.picture(100 + n, 80)))
    (cluster.home / names[7]).write_bytes(b"no photograph")
    items = [
        Item(n=n, uri=file_uri(str(cluster.home / name)), version="")
        for n, name in enumerate(names)
    ]
    job = store.jobs.create(source="file:///x", model="mobilenet_v2@1", top_k=3)
    store.ledger.append(job.id, Page(chunks=[items], skipped=[], cursor=None))
    sender = Broker(load_settings(broker_url=cluster.environment["TAGMILL_BROKER_URL"]))
    sender.send([ChunkMessage(job=job.id, seq=0)])
    sender.close()
    with Worker(
        cluster,
        *("--gpus", "GPU-b", "--lanes-per-gpu", 1, "--root", cluster.home),
        FAKE_GPUS=json.dumps(GPUS),
        TAGMILL_BATCH_SIZE="8",
        TAGMILL_STORE_URL=f"sqlite:///{cluster.home / 'tagmill.db'}",
    ) as worker:
        (lane,) = worker.await_lanes(1)
        assert lane.ppid() == worker.pid
        assert lane.environ()["CUDA_VISIBLE_DEVICES"] == "GPU-bb"
        until(lambda: store.jobs.get(job.id).state == JobState.DONE)
        assert "keras backend=" in worker.log()
        assert "Keras finds no GPU" in worker.log(), "slow, and said"
        assert worker.end() == 0
    done = store.jobs.get(job.id)
    assert (done.ok, done.failed) == (19, 1)
    assert [result.n for result in store.outcomes.results(job.id)] == list(range(20))
    store.close()


def test_second_interrupt_ends_all_at_once(cluster: Tagmill) -> None:
    with Worker(
        cluster,
        "--lanes-per-gpu",
        1,
        FAKE_GPUS=json.dumps(GPUS),
        TAGMILL_CLASSIFIER="litert",
    ) as worker:
        lanes = worker.await_lanes(2)
        for lane in lanes:
            psutil.Process(lane.ppid()).suspend()  # they would not heed the first
        os.kill(worker.pid, signal.SIGINT)
        until(lambda: "stopping 2 slots" in worker.log())
        assert worker.end(signal.SIGINT) == 130


def test_slots_do_not_outlive_their_supervisor(cluster: Tagmill) -> None:
    gpus = json.dumps(GPUS)
    with Worker(
        cluster, "--lanes-per-gpu", 1, FAKE_GPUS=gpus, TAGMILL_CLASSIFIER="litert"
    ) as worker:
        worker.await_lanes(2)
        assert worker.end(signal.SIGKILL) == -signal.SIGKILL


def test_training_machine_takes_no_labelling(cluster: Tagmill) -> None:
    with Worker(cluster, "--queues", "train", "--gpus", "none") as worker:
        worker.await_lanes(1)
        assert "lane=train-cpu0@" in worker.log()
        assert "queues=train,control" in worker.log()
        assert worker.end() == 0


def test_worker_that_cannot_be_says_why(cluster: Tagmill) -> None:
    done = cluster("worker", "--gpus", "0,7", code=3, FAKE_GPUS=json.dumps(GPUS))
    assert "no GPU 7: " in done.stderr
    assert "0 (GPU-aa), 1 (GPU-bb)" in done.stderr
    assert "there is none" in cluster("worker", "--gpus", "all", code=3).stderr
    assert "label, train" in cluster("worker", "--queues", "x", code=2).stderr
    without = cluster("worker", code=3, TAGMILL_BROKER_URL="")
    assert "TAGMILL_BROKER_URL" in without.stderr
