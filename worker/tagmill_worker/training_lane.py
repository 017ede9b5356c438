"""A training from claim to end: the lease, the progress, and what becomes of it.

Knows nothing of Celery, and nothing of how a training is done: the trainer is handed in.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from tagmill.errors import ClaimLost, ModelUnavailable, StoreError, TagmillError
from tagmill.models import newest
from tagmill.patience import Patience
from tagmill.registry import ModelVersion, open_registry
from tagmill.settings import Settings
from tagmill.store import ClaimedTraining, Store
from tagmill.training import TrainingRequest, TrainingResult, TrainMessage

log = logging.getLogger(__name__)

MOST_BEAT_S = 5.0
"""Between two renewals of a lease at the most."""


class Trainer(Protocol):
    """Trains a version, compares it with the champion, probes it, and puts it into the registry.

    Killed at any moment and called again with the same request it goes on.
    """

    def __call__(
        self,
        request: TrainingRequest,
        *,
        settings: Settings,
        champion: ModelVersion | None,
        known_fingerprint: str | None,
        progress: Callable[[str, int, int], None],
        is_cancelled: Callable[[], bool],
        corrections: Mapping[str, str],
    ) -> TrainingResult:
        """Train.

        Args:
            request: what is wanted.
            settings: registry, state folder, roots and limits.
            champion: to be compared with.
            known_fingerprint: of a dataset for which nothing is to be trained.
            progress: told the stage, and how much of how much of it is done; costs nothing.
            is_cancelled: asked often; where it is true the trainer raises, whatever it likes.
            corrections: labels by URI that stand over the dataset's.

        Raises:
            TagmillError: saying what is wrong in one sentence.
        """


def do_training(
    message: TrainMessage,
    *,
    trainer: Trainer,
    settings: Settings,
    store: Store,
    lane: str,
    is_stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Do a training that waits, or forget the message: it may come twice.

    Args:
        message: names the training.
        trainer: does it.
        settings: for the lease, and for the trainer.
        store: where the training is.
        lane: who asks.
        is_stopping: the worker is told to stop: the training goes back, and on elsewhere.

    Raises:
        StoreError: if the store stays away; the training goes on elsewhere when its lease is over.
    """
    claims = store.training_claims
    patient = Patience()  # hours of work may wait for it
    claim = patient(claims.claim, message.training, lane=lane, lease_s=settings.lease_s)
    if claim is None:
        log.info("nothing to do training=%s", message.training)
        return
    log.info("training begins training=%s attempt=%d", claim.id, claim.attempt)
    with Lease(claim, store=store, lease_s=settings.lease_s) as lease:
        try:
            asked = claim.request
            corrections = (
                patient(store.corrections.labels, asked.name) if asked.heeds_corrections else {}
            )
            result = trainer(
                asked,
                settings=settings,
                champion=_champion(claim, settings),
                known_fingerprint=claim.known_fingerprint,
                progress=lease.progress,
                is_cancelled=lambda: lease.is_over or is_stopping(),
                corrections=corrections,
            )
        except Exception as error:  # noqa: BLE001  # whatever it was, the training ends with it
            result = None
            if not (lease.is_over or is_stopping()):
                patient(claims.fail, claim, _why(error))
                return
    if lease.is_over:
        log.warning("dropped: training %s was cancelled, or another lane has it", claim.id)
    elif result is None:
        patient(claims.give_back, claim)
        log.info("handed on training=%s", claim.id)
    else:
        _finish(patient, store, claim, result)


def _champion(claim: ClaimedTraining, settings: Settings) -> ModelVersion | None:
    """What is in use: without an alias it is what was imported, if anything was.

    Raises:
        ModelUnavailable: if it is gone.
    """
    name, registry = claim.request.name, open_registry(settings)
    if claim.champion is None:
        return newest(registry, name, lambda card: card.is_imported)
    champion = ModelVersion(name=name, number=claim.champion)
    if not registry.holds(champion):
        raise ModelUnavailable(
            f"{champion}, the champion, is gone from {registry.place}: bring it back, promote "
            "another version of it, or train under another name"
        )
    return champion


def _finish(
    patient: Patience, store: Store, claim: ClaimedTraining, result: TrainingResult
) -> None:
    try:
        promoted = patient(store.training_claims.finish, claim, result)
    except ClaimLost as lost:
        log.warning("dropped: %s", lost)
        return
    log.info("training done training=%s promoted=%s: %s", claim.id, promoted, result.said)


def _why(error: Exception) -> str:
    """Why a training failed, in a sentence."""
    if isinstance(error, TagmillError):
        said = str(error)
    elif isinstance(error, OSError):
        said = f"{error.filename or 'a file'}: {error.strerror or error}"
    else:
        said = f"a fault of tagmill's: {error!r:.300}"
        log.error("a fault in the code", exc_info=error)
    log.error("training failed: %s", said)
    return said


class Lease:
    """Renews a training's lease in a thread, and writes how far it is.

    Args:
        claim: of the training.
        store: where it is.
        lease_s: for how long the claim holds from each renewal on.
    """

    def __init__(self, claim: ClaimedTraining, *, store: Store, lease_s: float) -> None:
        self._claim = claim
        self._store = store
        self._lease_s = lease_s
        self._at = ("starting", 0, 0)
        self._due = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self.is_over = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended = True
        self._due.set()
        self._thread.join()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Note how far the training is; a new stage is written at once."""
        is_new = stage != self._at[0]
        self._at = (stage, done, total)
        if is_new:
            self._due.set()

    def renew(self) -> None:
        """Renew once: what the thread does every few seconds."""
        stage, done, total = self._at
        try:
            held = self._store.training_claims.renew(
                self._claim, lease_s=self._lease_s, stage=stage, done=done, total=total
            )
        except StoreError as error:
            log.warning("the lease of a training was not renewed: %s", error)
        else:
            self.is_over = not held

    def _run(self) -> None:
        while True:
            self._due.wait(min(MOST_BEAT_S, self._lease_s / 4))
            self._due.clear()
            if self._ended:
                return
            self.renew()
