"""Finds the GPUs of this machine, before any framework is imported that would take them all.

NVML, the management library of NVIDIA's driver, names every GPU by a UUID that stays the same
when another one goes. Of the environment this module reads ``CUDA_VISIBLE_DEVICES``, by which a
container or a batch system says what is ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tagmill.errors import MissingError

AUTO, ALL, NONE = "auto", "all", "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU, or one MIG slice of one.

    Attributes:
        index: of the GPU, as ``nvidia-smi`` counts.
        mig: which slice of it, where it is divided.
        uuid: ``GPU-…`` or ``MIG-…``: what ``CUDA_VISIBLE_DEVICES`` takes.
        name: of the product, for people.
    """

    index: int
    mig: int | None = None
    uuid: str
    name: str

    @property
    def short_name(self) -> str:
        """What lanes on it are named after: ``gpu0``, or ``gpu0-mig1``."""
        return f"gpu{self.index}" + ("" if self.mig is None else f"-mig{self.mig}")

    def is_meant_by(self, text: str) -> bool:
        """True where ``text`` is the GPU's number, its UUID, or how that begins."""
        if text.isdecimal():
            return int(text) == self.index
        return bool(text) and self.uuid.lower().startswith(text.lower())


def is_given_a_gpu() -> bool:
    """True where this process was started to use a GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith(("GPU-", "MIG-"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a look at the machine came to.

    Attributes:
        gpus: those that can be used.
        notes: a sentence on each that cannot be, or on why there is none.
    """

    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()


def find_gpus() -> Found:
    """The GPUs that are there and ours, MIG slices instead of the GPUs that they divide.

    Never fails: where there is no driver, or NVML is not to be had, there is no GPU, and a note.
    """
    try:
        import pynvml
    except ImportError:
        return Found(notes=("no GPU is looked for without NVML: pip install 'tagmill[gpu]'",))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Found(notes=(f"no GPU: {error}",))
    try:
        notes: list[str] = []
        gpus = list(_listed(pynvml, notes))
    except pynvml.NVMLError as error:
        return Found(notes=(f"no GPU: {error}",))
    finally:
        pynvml.nvmlShutdown()
    ours = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = gpus if ours is None else visible(gpus, ours)
    if len(seen) < len(gpus):
        notes.append(f"CUDA_VISIBLE_DEVICES={ours} leaves {len(seen)} of {len(gpus)} GPUs")
    if not seen and not notes:
        notes.append("no GPU: the driver knows of none")
    return Found(gpus=tuple(seen), notes=tuple(notes))


def _listed(nvml: Any, notes: list[str]) -> Iterator[Gpu]:
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if _is_divided(nvml, handle):
                slices = list(_slices(nvml, handle, index))
                if not slices:
                    notes.append(f"GPU {index} is in MIG mode and has no slices: passed over")
                yield from slices
                continue
            yield Gpu(
                index=index,
                uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                name=_text(nvml.nvmlDeviceGetName(handle)),
            )
        except nvml.NVMLError as error:  # lost, say: the others are well
            notes.append(f"GPU {index} is passed over: {error}")


def _is_divided(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError_NotSupported:
        return False
    return bool(current)


def _slices(nvml: Any, handle: Any, index: int) -> Iterator[Gpu]:
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except nvml.NVMLError_NotFound:
            continue
        yield Gpu(
            index=index,
            mig=number,
            uuid=_text(nvml.nvmlDeviceGetUUID(found)),
            name=_text(nvml.nvmlDeviceGetName(found)),
        )


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def visible(gpus: list[Gpu], setting: str) -> list[Gpu]:
    """The GPUs that a value of ``CUDA_VISIBLE_DEVICES`` leaves, in its order.

    As CUDA has it, the first entry that names none ends the list. Numbers count as ``nvidia-smi``
    does, which is CUDA's order under ``CUDA_DEVICE_ORDER=PCI_BUS_ID``.
    """
    seen: list[Gpu] = []
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        named = [gpu for gpu in gpus if gpu.is_meant_by(entry) and gpu not in seen]
        if not named:
            break
        seen += named
    return seen


def choose(found: Found, asked: str) -> tuple[Gpu, ...]:
    """The GPUs that ``--gpus`` means.

    Args:
        found: what is there.
        asked: ``auto`` for all that are there, ``all`` for at least one, ``none``, or numbers and
            UUIDs joined by commas.

    Raises:
        MissingError: naming what is not there, and what is.
    """
    if asked == NONE:
        return ()
    if asked == AUTO:
        return found.gpus
    if asked == ALL:
        if not found.gpus:
            raise MissingError(f"--gpus all, and there is none: {'; '.join(found.notes)}")
        return found.gpus
    chosen: list[Gpu] = []
    missing: list[str] = []
    for entry in filter(None, (part.strip() for part in asked.split(","))):
        named = [gpu for gpu in found.gpus if gpu.is_meant_by(entry)]
        missing += [] if named else [entry]
        chosen += [gpu for gpu in named if gpu not in chosen]
    if missing or not chosen:
        there = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in found.gpus) or "none"
        why = "".join(f"; {note}" for note in found.notes)
        raise MissingError(
            f"no GPU {', '.join(missing) or repr(asked)}: --gpus is auto, all, none, or numbers "
            f"and UUIDs of those that are there: {there}{why}"
        )
    return tuple(chosen)
