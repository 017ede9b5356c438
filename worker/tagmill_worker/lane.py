"""A lane: takes one chunk at a time from claim to commit. Knows nothing of Celery."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
)
from tenacity.wait import wait_random_exponential

from tagmill.contract import ChunkMessage, ChunkSummary, ChunkTimings, ClaimedChunk
from tagmill.errors import ClaimLost, ModelUnavailable, StoreError, StoreFull
from tagmill.registry import ModelVersion, Registry
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.store import Store
from tagmill_worker.chunk import ChunkLoop, Labelled
from tagmill_worker.classifiers import load_classifier
from tagmill_worker.fetch import Fetch, LocalFetch
from tagmill_worker.images import Decoded, Geometry, decode

log = logging.getLogger(__name__)

KEPT_MODELS = 3
"""Model versions that a lane keeps loaded."""

MOST_LOSSES = 2
"""Claims of a chunk that may end in a lost lane before it is split."""

STORE_TRIES = 5
"""Of a claim or a commit while the store is away."""


class Lane:
    """One lane of this process.

    Args:
        name: who it is in ledger and logs, as ``label-cpu0@host``.
        settings: limits, roots and the lease.
        store: where the ledger is.
        registry: where the models are.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        store: Store,
        registry: Registry,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._settings = settings
        self._store = store
        self._registry = registry
        self._clock = clock
        self._patient = Retrying(
            stop=stop_after_attempt(STORE_TRIES),
            wait=wait_random_exponential(multiplier=1.0, max=30.0),
            retry=retry_if_exception_type(StoreError) & retry_if_not_exception_type(StoreFull),
            before_sleep=before_sleep_log(log, logging.WARNING),
            sleep=sleep,
            reraise=True,
        )
        self._fetch = Fetch(
            LocalFetch(settings.roots, max_bytes=settings.max_bytes),
            S3(settings),
            max_bytes=settings.max_bytes,
        )
        self._loops: OrderedDict[str, ChunkLoop] = OrderedDict()
        self._ended_at: float | None = None
        self._commit_s = 0.0

    def warm_up(self, model: str) -> None:
        """Load a model version and run it once, so that the first chunk finds it ready.

        Raises:
            ModelUnavailable: if it cannot be loaded.
        """
        import numpy as np

        size = self._geometry(model).size
        self._loop(model).classifier.predict(np.zeros((1, size, size, 3), np.uint8))

    def do(self, message: ChunkMessage, *, redelivered: bool) -> list[ChunkMessage]:
        """Do a chunk, from claim to commit.

        Args:
            message: names the chunk.
            redelivered: the broker says that whoever had the message before did not end it.

        Returns:
            Messages to send for chunks that this one was split into.

        Raises:
            StoreError: if the store stays away; the chunk stays claimed until its lease ends.
            ModelUnavailable: if the job's model cannot be loaded.
        """
        asked_at = self._clock()
        claim = self._patient(
            self._store.ledger.claim,
            message.job,
            message.seq,
            lane=self.name,
            lease_s=self._settings.lease_s,
            redelivered=redelivered,
        )
        waiting_s = self._clock() - (self._ended_at or asked_at)
        if claim is None:
            log.info("nothing to do job=%s chunk=%d", message.job, message.seq)
            return []
        try:
            if claim.losses >= MOST_LOSSES:
                return self._split(claim)
            labelled = self._loop(claim.model).run(claim.items, top_k=claim.top_k)
            self._commit(claim, labelled, waiting_s)
        except ClaimLost as lost:
            log.warning("dropped: %s", lost)
        finally:
            self._ended_at = self._clock()
        return []

    def _split(self, claim: ClaimedChunk) -> list[ChunkMessage]:
        seqs = self._store.ledger.split(claim, lane=self.name)
        log.error(
            "chunk lost its lane %d times, split job=%s chunk=%d items=%d into=%s",
            claim.losses,
            claim.job,
            claim.seq,
            len(claim.items),
            list(seqs),
        )
        return [ChunkMessage(job=claim.job, seq=seq) for seq in seqs]

    def _commit(self, claim: ClaimedChunk, labelled: Labelled, waiting_s: float) -> None:
        spent = labelled.spent
        summary = ChunkSummary(
            lane=self.name,
            timings=ChunkTimings(
                fetch_s=round(spent.fetch_s, 6),
                decode_s=round(spent.decode_s, 6),
                predict_s=round(spent.predict_s, 6),
                commit_s=round(self._commit_s, 6),
                waiting_s=round(waiting_s, 6),
            ),
            seen=labelled.seen,
            failures=labelled.failures,
        )
        started = self._clock()
        self._commit_s = 0.0  # told in the summary above, once
        self._patient(self._store.ledger.commit, claim, labelled.outcomes, summary)
        self._commit_s = self._clock() - started
        log.info(
            "labelled job=%s chunk=%d items=%d failed=%d fetch_s=%.3f decode_s=%.3f "
            "predict_s=%.3f commit_s=%.3f waiting_s=%.3f",
            claim.job,
            claim.seq,
            len(claim.items),
            sum(labelled.failures.values()),
            spent.fetch_s,
            spent.decode_s,
            spent.predict_s,
            self._commit_s,
            waiting_s,
        )

    def _geometry(self, model: str) -> Geometry:
        card = self._registry.card(_version(model))
        return Geometry(size=card.input_size, name=card.geometry, resize_ratio=card.resize_ratio)

    def _loop(self, model: str) -> ChunkLoop:
        loop = self._loops.get(model)
        if loop is None:
            version = _version(model)
            labels = self._registry.labels(version)
            classes = self._registry.card(version).classes
            if len(labels) != classes:
                raise ModelUnavailable(
                    f"model {version} has {classes:,} classes and {len(labels):,} labels"
                )
            loop = ChunkLoop(
                fetch=self._fetch,
                decode=_decoder(self._geometry(model), self._settings.max_pixels),
                classifier=load_classifier(self._settings.classifier, self._registry, version),
                labels=labels,
            )
            self._loops[model] = loop
            while len(self._loops) > KEPT_MODELS:
                self._loops.popitem(last=False)
        self._loops.move_to_end(model)
        return loop


def _version(model: str) -> ModelVersion:
    name, _, number = model.rpartition("@")
    return ModelVersion(name=name, number=int(number))


def _decoder(geometry: Geometry, max_pixels: int) -> Callable[[bytes], Decoded]:
    return partial(decode, geometry=geometry, max_pixels=max_pixels)


def lane_of(settings: Settings, name: str) -> Lane:
    """A lane with the store and the registry that the settings name."""
    return Lane(
        name,
        settings=settings,
        store=Store(settings.store_address),
        registry=Registry(Path(settings.models_dir)),
    )
