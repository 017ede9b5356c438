"""The process that trains: one of its own, beside the lane that has the message.

TensorFlow's memory goes with it, and it may start processes as it likes, which Celery's may not.
Told to stop, or when its lane is gone, it hands its training on.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from importlib import import_module
from subprocess import TimeoutExpired
from typing import Any

from tagmill.embedded.process import end, start
from tagmill.errors import ModelUnavailable
from tagmill.settings import Settings
from tagmill.store import Store
from tagmill.training import TrainingRequest, TrainingResult, TrainMessage
from tagmill_worker.training_lane import Trainer, do_training

log = logging.getLogger(__name__)

STOP_GRACE_S = 25
"""For a step of a training to end, and less than a worker's soft shutdown."""

_LOOK_S = 0.2


def await_training(
    message: TrainMessage, *, store: Store, lane: str, is_stopping: Callable[[], bool]
) -> None:
    """Start the process, and wait until it has ended. For a lane.

    Args:
        message: names the training.
        store: where it is.
        lane: who asks.
        is_stopping: the worker is told to stop.

    Raises:
        StoreError: if the store is away while a training is taken back.
    """
    command = [sys.executable, "-m", "tagmill_worker", "train", message.training, "--lane", lane]
    process = start(command, sys.__stderr__.fileno() if sys.__stderr__ else 2)
    try:
        while process.poll() is None:
            if is_stopping():
                end(process, grace_s=STOP_GRACE_S)
            with suppress(TimeoutExpired):
                process.wait(_LOOK_S)
    finally:
        end(process, grace_s=STOP_GRACE_S)
    if process.returncode and is_stopping():  # it was ended by force: no fault of its
        if store.training_claims.take_back(message.training, lane=lane):
            log.info("taken back training=%s", message.training)
    elif process.returncode:
        log.error(
            "the trainer ended with code %d, its lease runs out training=%s",
            process.returncode,
            message.training,
        )


def run_training(settings: Settings, training_id: str, *, lane: str) -> None:
    """Do a training. For the process, whose main thread calls it.

    Args:
        settings: of the worker.
        training_id: which one.
        lane: that waits for it.

    Raises:
        StoreError: if the store stays away.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s trainer %(message)s")
    asked: list[int] = []

    def stop(signum: int, _: object) -> None:
        asked.append(signum)
        signal.alarm(STOP_GRACE_S)  # which ends a process that is stuck

    signal.signal(signal.SIGTERM, stop)
    with closing(Store(settings.store_address)) as store:
        do_training(
            TrainMessage(training=training_id),
            trainer=_trainer,
            settings=settings,
            store=store,
            lane=lane,
            is_stopping=lambda: bool(asked),
        )


def _trainer(request: TrainingRequest, **how: Any) -> TrainingResult:
    """The trainer, which loads TensorFlow when it is called: a claim that fails does without."""
    try:
        found: Trainer = import_module("tagmill_worker.training.trainer").train
    except ImportError as error:
        raise ModelUnavailable(
            f"training needs {error.name}: pip install 'tagmill[train]'"
        ) from error
    return found(request, **how)
