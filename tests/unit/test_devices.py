from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tagmill.errors import MissingError
from tagmill_worker.devices import Found, Gpu, choose, find_gpus, visible

FAKE = Path(__file__).parents[1] / "support" / "fake_nvml"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with an NVML, so far without a driver."""
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.delenv("FAKE_GPUS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def with_gpus(machine: pytest.MonkeyPatch, *gpus: dict[str, object]) -> None:
    machine.setenv("FAKE_GPUS", json.dumps(gpus))


def gpu(index: int, uuid: str | None = None, mig: int | None = None) -> Gpu:
    return Gpu(index=index, mig=mig, uuid=uuid or f"GPU-{index}{index}", name="Fake")


def test_gpus_are_found_by_index_and_uuid(machine: pytest.MonkeyPatch) -> None:
    with_gpus(machine, {"uuid": "GPU-aa"}, {"uuid": "GPU-bb", "can_divide": True})
    found = find_gpus()
    assert [(each.short_name, each.uuid) for each in found.gpus] == [
        ("gpu0", "GPU-aa"), ("gpu1", "GPU-bb"),
    ]  # fmt: skip
    assert found.notes == ()


def test_mig_slices_stand_for_the_gpu_that_they_divide(machine: pytest.MonkeyPatch) -> None:
    with_gpus(
        machine,
        {"uuid": "GPU-aa", "slices": [[0, "MIG-a0"], [3, "MIG-a3"]]},
        {"uuid": "GPU-bb", "slices": []},
    )
    found = find_gpus()
    assert [(each.short_name, each.uuid) for each in found.gpus] == [
        ("gpu0-mig0", "MIG-a0"), ("gpu0-mig3", "MIG-a3"),
    ]  # fmt: skip
    assert found.notes == ("GPU 1 is in MIG mode and has no slices: passed over",)


def test_lost_gpu_is_passed_over_and_said(machine: pytest.MonkeyPatch) -> None:
    with_gpus(machine, {"uuid": "GPU-aa", "lost": True}, {"uuid": "GPU-bb"})
    found = find_gpus()
    assert [each.short_name for each in found.gpus] == ["gpu1"]
    assert found.notes == ("GPU 0 is passed over: GPU is lost",)


def test_machine_without_driver_has_no_gpu_and_says_why(machine: pytest.MonkeyPatch) -> None:
    assert find_gpus() == Found(notes=("no GPU: NVML Shared Library Not Found",))


def test_missing_nvml_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found = find_gpus()
    assert found.gpus == ()
    assert "pip install 'tagmill[gpu]'" in found.notes[0]


def test_what_a_container_hides_is_not_ours_and_that_is_said(
    machine: pytest.MonkeyPatch,
) -> None:
    with_gpus(machine, {"uuid": "GPU-aa"}, {"uuid": "GPU-bb"})
    machine.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    found = find_gpus()
    assert [each.uuid for each in found.gpus] == ["GPU-bb"]
    assert found.notes == ("CUDA_VISIBLE_DEVICES=GPU-b leaves 1 of 2 GPUs",)


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        ("0,2", ["GPU-00", "GPU-22"]),
        ("2,0", ["GPU-22", "GPU-00"]),
        ("1", ["MIG-a", "MIG-b"]),
        ("MIG-b", ["MIG-b"]),
        ("GPU-2,MIG-a", ["GPU-22", "MIG-a"]),
        ("0,9,2", ["GPU-00"]),
        ("0,-1,2", ["GPU-00"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(setting: str, left: list[str]) -> None:
    gpus = [gpu(0), gpu(1, "MIG-a", 0), gpu(1, "MIG-b", 1), gpu(2)]
    assert [each.uuid for each in visible(gpus, setting)] == left


def test_gpus_are_chosen_by_word_number_and_uuid() -> None:
    there = Found(gpus=(gpu(0), gpu(1), gpu(2)))
    for asked, chosen in {
        "auto": [0, 1, 2], "all": [0, 1, 2], "none": [], "0,2": [0, 2], "GPU-1": [1],
        "gpu-22, 0": [2, 0], "1,GPU-11": [1],
    }.items():  # fmt: skip
        assert [each.index for each in choose(there, asked)] == chosen, asked


def test_machine_without_gpus_is_fine_unless_gpus_are_asked_for() -> None:
    there = Found(notes=("no GPU: why",))
    assert choose(there, "auto") == choose(there, "none") == ()
    with pytest.raises(MissingError, match="no GPU: why"):
        choose(there, "all")


def test_gpu_that_is_not_there_is_named_with_those_that_are() -> None:
    there = Found(gpus=(gpu(0), gpu(3)), notes=("GPU 1 is passed over: lost",))
    with pytest.raises(MissingError, match=r"no GPU 1, GPU-9: .* 3 \(GPU-33\); GPU 1"):
        choose(there, "0,1,GPU-9")
    for asked in ("", ",", "some"):
        with pytest.raises(MissingError, match="no GPU"):
            choose(there, asked)
