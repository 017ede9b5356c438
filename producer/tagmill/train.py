"""Asking for a training, and watching it until it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tagmill.contract import Message
from tagmill.errors import SourceError, TrainingFailed, UsageError
from tagmill.patience import AT_ONCE, Patience
from tagmill.settings import Settings
from tagmill.sources import default_roots, path_of, source_name
from tagmill.store import Store, Training
from tagmill.training import CORRECTIONS, TrainingRequest, TrainingState, TrainMessage

POLL_S = 0.5
"""Between two looks at a training."""

MOST_ROOTS = 500
"""A worker is told of them in a variable, which Linux lets have 128 KiB."""


def dataset_name(text: str) -> str:
    """A dataset as everybody finds it: absolute, wherever it was named; or `CORRECTIONS`.

    Raises:
        SourceError: if it is on this machine's disks and not there.
    """
    if text == CORRECTIONS:
        return text
    name = source_name(text)
    if name.startswith("file:") and not os.path.exists(path_of(name)):
        raise SourceError(f"{text:.200}: no such folder or manifest")
    return name


def with_training_roots(settings: Settings, request: TrainingRequest, store: Store) -> Settings:
    """Settings whose roots are the folders of a training's images where the user set none.

    Raises:
        UsageError: if they are too many to be told to a worker.
    """
    if settings.roots:
        return settings
    roots = set() if request.dataset == CORRECTIONS else set(default_roots(request.dataset))
    if request.heeds_corrections:
        files = (uri for uri in store.corrections.labels(request.name) if uri.startswith("file:"))
        roots.update(Path(path_of(uri)).parent for uri in files)
    if len(roots) > MOST_ROOTS:
        raise UsageError(
            f"the corrections of {request.name} lie in {len(roots):,} folders, the limit is "
            f"{MOST_ROOTS}: name one above them with --root"
        )
    return settings.model_copy(update={"roots": tuple(sorted(roots))})


def ask_for_training(
    store: Store, send: Callable[[Sequence[Message]], None], request: TrainingRequest
) -> Training:
    """Queue a training and wake a lane up; one of the same request that has not ended goes on.

    Raises:
        StoreError: if the store is away.
        BrokerError: if the broker is; the training is queued, and the tick sends its message.
    """
    training = store.trainings.ask(request)
    if training.state is TrainingState.QUEUED:
        send([TrainMessage(training=training.id)])
    return training


def watch_training(
    store: Store,
    training_id: str,
    show: Callable[[Training], None],
    *,
    check: Callable[[Training], None] = lambda _: None,
    poll_s: float = POLL_S,
    patient: Patience = AT_ONCE,
) -> Training:
    """Show a training's progress until it ends.

    Args:
        store: where it is.
        training_id: which one.
        show: called after each look.
        check: called while it has not ended; raises where nothing is to be waited for.
        poll_s: between two looks.
        patient: waits for a store that is away.

    Raises:
        TrainingFailed: if it failed, or was cancelled.
    """
    while True:
        training = patient(store.trainings.get, training_id)
        show(training)
        if training.state is TrainingState.DONE:
            return training
        if training.state.is_finished:
            raise TrainingFailed(f"training {training.id} {training.state}: {training.said}")
        check(training)
        time.sleep(poll_s)
