from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tagmill.errors import MissingError, UsageError
from tagmill_worker.devices import Gpu
from tagmill_worker.lane_files import STALE_S, LaneFolder, liveness, readiness
from tagmill_worker.slots import Slot, cores, parse_queues, plain_slot, plan

HOST = socket.gethostname()
GPUS = [Gpu(index=0, uuid="GPU-a", name="Fake 9000"), Gpu(index=2, mig=1, uuid="MIG-c", name="F")]


@pytest.fixture
def folder(tmp_path: Path) -> LaneFolder:
    return LaneFolder(tmp_path / "lanes")


def planned(
    folder: LaneFolder,
    *queues: str,
    gpus: list[Gpu] | None = None,
    lanes: int = 1,
    lanes_per_gpu: int = 2,
) -> list[Slot]:
    return plan(
        queues or ("label",), gpus or [], lanes_per_gpu=lanes_per_gpu, lanes=lanes, folder=folder
    )


def names(slots: list[Slot]) -> list[str]:
    found = [slot.lane_name(i) for slot in slots for i in range(len(slot.lanes))]
    for name in found:
        assert name.endswith(f"@{HOST}")
    return [name.partition("@")[0] for name in found]


def free(slots: list[Slot]) -> None:
    for slot in slots:
        for lane in slot.lanes:
            lane.close()


def test_cpu_lanes_share_one_slot_and_have_a_core_each(folder: LaneFolder) -> None:
    (slot,) = slots = planned(folder, lanes=len(cores()))
    assert [slot.core(i) for i in range(len(cores()))] == cores()
    assert names(slots) == [f"label-cpu{core}" for core in cores()]
    assert slot.environment({"PATH": "p"}) == {
        "PATH": "p",
        "CUDA_VISIBLE_DEVICES": "-1",
        "REMAP_SIGTERM": "SIGQUIT",
    }
    free(slots)


def test_lanes_beyond_the_free_cores_are_bound_to_none(folder: LaneFolder) -> None:
    first = planned(folder, lanes=len(cores()))
    (slot,) = second = planned(folder, lanes=2)
    assert [slot.core(i) for i in range(2)] == [None, None]
    assert not set(names(first)) & set(names(second))
    free(first)
    third = planned(folder, lanes=1)
    assert third[0].core(0) == cores()[0], "a lane that ended leaves its core"
    free(second + third)


def test_each_gpu_lane_is_a_slot_that_sees_its_gpu_only(folder: LaneFolder) -> None:
    slots = planned(folder, gpus=GPUS)
    assert names(slots) == [
        "label-gpu0", "label-gpu0.1", "label-gpu2-mig1", "label-gpu2-mig1.1",
    ]  # fmt: skip
    seen = [slot.environment({"CUDA_VISIBLE_DEVICES": "all"}) for slot in slots]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in seen] == ["GPU-a"] * 2 + ["MIG-c"] * 2
    assert {each["TF_FORCE_GPU_ALLOW_GROWTH"] for each in seen} == {"true"}
    again = planned(folder, gpus=GPUS[:1])
    assert names(again) == ["label-gpu0.2", "label-gpu0.3"]
    free(slots + again)


def test_training_has_a_slot_of_its_own(folder: LaneFolder) -> None:
    for gpus, name in ([], "train-cpu0"), (GPUS, "train-gpu0"):
        (slot,) = slots = planned(folder, "train", gpus=gpus)
        assert names(slots) == [name]
        assert slot.queues == ["train", "control"]
        assert slot.core(0) is None
        assert "OMP_NUM_THREADS" not in slot.environment({"OMP_NUM_THREADS": "1"})
        free(slots)
    both = planned(folder, "label", "train", gpus=GPUS, lanes_per_gpu=1)
    assert names(both) == ["label-gpu0", "label-gpu2-mig1", "train-gpu0"]
    assert [slot.queues for slot in both] == [["label", "control"]] * 2 + [["train"]]
    free(both)


def test_slot_is_the_same_on_the_other_side_of_a_command_line(folder: LaneFolder) -> None:
    from tagmill_worker.__main__ import _parser

    slots = planned(folder, "label", "train", gpus=GPUS) + planned(folder, lanes=2)
    for slot in slots:
        read = _parser().parse_args(["slot", *slot.arguments(), "--warm-up", "m@1"])
        same = Slot.parse(read.queue, read.lanes, read.gpu, takes_control=read.takes_control)
        assert (same.name, same.gpu, same.queues) == (slot.name, slot.gpu, slot.queues)
        assert [lane.descriptor for lane in same.lanes] == [lane.descriptor for lane in slot.lanes]
    free(slots)


def test_lanes_of_a_run_are_bound_to_no_core_and_write_no_file() -> None:
    slot = plain_slot(2)
    assert names([slot]) == ["label-cpu0", "label-cpu1"]
    assert [slot.core(i) for i in range(2)] == [None, None]
    slot.lanes[0].ready()
    slot.lanes[0].beat()


def test_queues_are_ours() -> None:
    assert parse_queues("train, label,train") == ("train", "label")
    for text in ("", "celery", "label,x"):
        with pytest.raises(UsageError, match="--queues takes label, train"):
            parse_queues(text)


def test_worker_is_ready_when_every_lane_is(folder: LaneFolder) -> None:
    assert readiness(folder.at_work()) == (False, "not ready: no lane is at work")
    slots = planned(folder, gpus=GPUS[:1])
    slots[0].lanes[0].ready()
    assert readiness(folder.at_work()) == (False, "not ready: gpu0.1 of 2 lanes still start")
    slots[1].lanes[0].ready()
    assert readiness(folder.at_work()) == (True, "ready: gpu0, gpu0.1")
    slots[0].lanes[0].close()
    assert readiness(folder.at_work()) == (True, "ready: gpu0.1")
    free(slots[1:])


def test_worker_is_alive_while_every_lane_gets_on(folder: LaneFolder) -> None:
    slots = planned(folder, gpus=GPUS[:1])
    lane = slots[0].lanes[0]
    now = time.time()
    assert lane.descriptor is not None
    os.utime(lane.descriptor, (now, now - STALE_S - 5))
    is_alive, line = liveness(folder.at_work(), now)
    assert (is_alive, line) == (False, f"not alive: no progress of gpu0 for {STALE_S + 5:.0f} s")
    lane.beat()
    assert liveness(folder.at_work(), time.time())[0]
    free(slots)


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError, match="Not a directory"):
        planned(LaneFolder(tmp_path / "file" / "lanes"))
    folder = LaneFolder(tmp_path / "lanes")
    folder.path.mkdir(mode=0o700)
    (folder.path / "gpu0.lane").mkdir()
    with pytest.raises(MissingError, match="Is a directory"):
        planned(folder, gpus=GPUS[:1])


def test_folder_of_somebody_else_is_refused(folder: LaneFolder) -> None:
    folder.path.mkdir(mode=0o777)
    folder.path.chmod(0o777)
    with pytest.raises(MissingError, match="open to others"):
        planned(folder)
    folder.path.rmdir()
    folder.path.symlink_to("/tmp")
    with pytest.raises(MissingError, match="not ours"):
        planned(folder)
