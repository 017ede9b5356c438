"""Slots: which Celery processes a machine runs, each with its lanes and its device.

All CPU lanes share one slot, whose process forks them. A GPU lane is a slot of its own, because
what it may see of the GPUs has to be in the environment before its process starts.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tagmill.contract import CONTROL_QUEUE, LABEL_QUEUE, TRAIN_QUEUE
from tagmill.errors import UsageError
from tagmill_worker.devices import Gpu
from tagmill_worker.lane_files import LaneFile, LaneFolder

QUEUES = (LABEL_QUEUE, TRAIN_QUEUE)

NO_GPU = "-1"
"""What CUDA takes for "none" in ``CUDA_VISIBLE_DEVICES``."""

_PER_CORE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

CAN_BIND = hasattr(os, "sched_setaffinity")
"""True where the system lets a process choose its cores: Linux."""

MOST_DECODE_THREADS = 8
"""Of a GPU lane: more than that outrun the device on photographs."""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One Celery process.

    Attributes:
        queue: ``label`` or ``train``.
        lanes: of which each is a process that Celery forks.
        gpu: which all of them see, and no other; ``None`` on the CPU.
        takes_control: they tick and list too. A lane that trains for hours would hold such a
            message meanwhile, so it does only where nobody else on its machine is there to.
    """

    queue: str
    lanes: tuple[LaneFile, ...]
    gpu: Gpu | None = None
    takes_control: bool = True

    @property
    def queues(self) -> list[str]:
        """The broker's queues that it takes messages from."""
        return [self.queue, CONTROL_QUEUE] if self.takes_control else [self.queue]

    @property
    def name(self) -> str:
        """Its name as a Celery node: that of its first lane."""
        return self.lane_name(0)

    @property
    def decode_threads(self) -> int:
        """Threads that decode for one lane; 0 where the lane's own does."""
        return min(MOST_DECODE_THREADS, len(cores())) if self.gpu else 0

    def lane_name(self, index: int) -> str:
        """The name of a lane in ledger and logs: ``label-cpu3@host``."""
        device = self.lanes[index].name.removeprefix(f"{self.queue}-")
        return f"{self.queue}-{device}@{socket.gethostname()}"

    def core(self, index: int) -> int | None:
        """The core that a lane is bound to, if it is."""
        lane = self.lanes[index]
        match = re.fullmatch(r"cpu(\d+)", lane.name)
        if match is None or lane.descriptor is None or not CAN_BIND:
            return None
        number = int(match[1])
        return number if number in cores() else None

    def device(self, index: int) -> str:
        """What a lane runs on, for people."""
        if self.gpu is not None:
            return f"{self.gpu.name} {self.gpu.uuid}"
        core = self.core(index)
        return "cpu" if core is None else f"cpu {core}"

    def arguments(self) -> list[str]:
        """The words of a command line from which `Slot.parse` makes this slot again."""
        words = [self.queue, *(f"{lane.name}={lane.descriptor}" for lane in self.lanes)]
        if self.gpu is not None:
            mig = "" if self.gpu.mig is None else str(self.gpu.mig)
            words += ["--gpu", str(self.gpu.index), mig, self.gpu.uuid, self.gpu.name]
        return words if self.takes_control else [*words, "--no-control"]

    @classmethod
    def parse(
        cls, queue: str, lanes: Sequence[str], gpu: Sequence[str] | None, *, takes_control: bool
    ) -> Slot:
        """Make the slot that `arguments` wrote."""
        files = []
        for lane in lanes:
            name, _, descriptor = lane.partition("=")
            files.append(LaneFile(name, int(descriptor)))
        found = None
        if gpu:
            index, mig, uuid, product = gpu
            found = Gpu(index=int(index), mig=int(mig) if mig else None, uuid=uuid, name=product)
        return cls(queue=queue, lanes=tuple(files), gpu=found, takes_control=takes_control)

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment of its process: what a framework reads when it is imported.

        Memory of a GPU is taken as it is needed, for the other lanes on it take theirs.
        """
        made = {
            **base,
            "CUDA_VISIBLE_DEVICES": self.gpu.uuid if self.gpu else NO_GPU,
            # Else SIGTERM waits for chunks in hand as long as they take, not 30 s.
            "REMAP_SIGTERM": "SIGQUIT",
        }
        if self.gpu is not None:
            made["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            made["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        if self.queue == TRAIN_QUEUE:  # it has the machine's cores to itself
            for name in _PER_CORE:
                made.pop(name, None)
        return made


def cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def parse_queues(text: str) -> tuple[str, ...]:
    """Read ``label,train``.

    Raises:
        UsageError: if a queue is none of ours.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = [name for name in names if name not in QUEUES]
    if wrong or not names:
        raise UsageError(
            f"no queue {', '.join(wrong) or repr(text)}: --queues takes {', '.join(QUEUES)}"
        )
    return names


def plain_slot(lanes: int) -> Slot:
    """A slot of CPU lanes for one run: they share the cores as the system sees fit."""
    return Slot(queue=LABEL_QUEUE, lanes=tuple(LaneFile(f"cpu{i}") for i in range(lanes)))


def plan(
    queues: Sequence[str],
    gpus: Sequence[Gpu],
    *,
    lanes_per_gpu: int,
    lanes: int,
    folder: LaneFolder,
) -> list[Slot]:
    """The slots of a machine, their lanes taken.

    Args:
        queues: of ``label`` and ``train``. Training has one slot, on the first GPU if any.
        gpus: to label on; without any, CPU lanes do.
        lanes_per_gpu: how many share one.
        lanes: how many there are where there is no GPU.
        folder: where lanes are taken.
    """
    slots = []
    if LABEL_QUEUE in queues and gpus:
        slots += [
            Slot(queue=LABEL_QUEUE, lanes=(folder.take_first(_numbered(gpu.short_name)),), gpu=gpu)
            for gpu in gpus
            for _ in range(lanes_per_gpu)
        ]
    elif LABEL_QUEUE in queues:
        slots.append(Slot(queue=LABEL_QUEUE, lanes=tuple(_cpu_lanes(folder, lanes))))
    if TRAIN_QUEUE in queues:
        first = gpus[0] if gpus else None
        names = (
            _numbered(f"{TRAIN_QUEUE}-{first.short_name}")
            if first
            else (f"{TRAIN_QUEUE}-cpu{number}" for number in itertools.count())
        )
        taken = (folder.take_first(names),)
        alone = not slots
        slots.append(Slot(queue=TRAIN_QUEUE, lanes=taken, gpu=first, takes_control=alone))
    return slots


def _cpu_lanes(folder: LaneFolder, count: int) -> Iterator[LaneFile]:
    """On the first cores that are free; lanes beyond those are numbered beyond all cores."""
    beyond = itertools.count(max(os.cpu_count() or 1, cores()[-1] + 1))
    names = itertools.chain(cores(), beyond)
    for _ in range(count):
        yield folder.take_first(f"cpu{number}" for number in names)


def _numbered(name: str) -> Iterator[str]:
    """The lanes of one GPU: ``gpu0``, ``gpu0.1``, ``gpu0.2`` and so on."""
    yield name
    for number in itertools.count(1):
        yield f"{name}.{number}"
