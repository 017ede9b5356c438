"""One machine's worker: looks for devices, takes lanes, and runs a slot for each device."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from tagmill.contract import LABEL_QUEUE
from tagmill.settings import Settings
from tagmill_worker.devices import NONE, Found, choose, find_gpus
from tagmill_worker.lane_files import lane_folder
from tagmill_worker.slots import CAN_BIND, Slot, plan
from tagmill_worker.supervisor import Supervisor, SystemProcesses

log = logging.getLogger(__name__)


def run_machine(
    settings: Settings,
    *,
    queues: Sequence[str],
    gpus: str,
    lanes_per_gpu: int,
    warm_up: str | None,
) -> int:
    """Run this machine's lanes until told to stop.

    With one slot this process becomes its Celery process, and does not return.

    Args:
        settings: with the number of CPU lanes.
        queues: that they take work from.
        gpus: which to use, as `choose` reads it.
        lanes_per_gpu: that share one.
        warm_up: the model version that labelling lanes load before they take work.

    Returns:
        The exit code.

    Raises:
        MissingError: if a GPU that was asked for is not there.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    found = Found() if gpus == NONE else find_gpus()
    for note in found.notes:
        log.info("%s", note)
    slots = plan(
        queues,
        choose(found, gpus),
        lanes_per_gpu=lanes_per_gpu,
        lanes=settings.lane_count,
        folder=lane_folder(),
    )
    _say_unpinned(slots)

    def command(slot: Slot) -> list[str]:
        # No model is warmed up for training: it takes the memory that it needs itself.
        warm = ["--warm-up", warm_up] if warm_up and slot.queue == LABEL_QUEUE else []
        return [sys.executable, "-m", "tagmill_worker", "slot", *slot.arguments(), *warm]

    def environment(slot: Slot) -> dict[str, str]:
        return slot.environment(os.environ)

    if len(slots) == 1:
        words = command(slots[0])
        sys.stderr.flush()
        os.execve(words[0], words, environment(slots[0]))  # noqa: S606  # we wrote the words
    processes = SystemProcesses(command, environment)
    processes.listen()
    return Supervisor(slots, processes).run()


def _say_unpinned(slots: Sequence[Slot]) -> None:
    lanes = [
        (slot, index)
        for slot in slots
        if slot.queue == LABEL_QUEUE and slot.gpu is None
        for index in range(len(slot.lanes))
    ]
    loose = [slot.lane_name(index) for slot, index in lanes if slot.core(index) is None]
    if loose and CAN_BIND:
        log.warning(
            "%d of %d lanes have no core of their own, for no more are free: %s",
            len(loose),
            len(lanes),
            ", ".join(loose),
        )
