"""One training from its beginning to its end. Killed at any moment and begun again, it goes on.

What it has done is in checkpoints, in the cache of vectors, and in the registry, whose card names
the training that made a version.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from tagmill.errors import SourceError
from tagmill.registry import BUILT_IN, SMALL, ModelVersion, open_registry
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import readable
from tagmill.training import TrainingRequest, TrainingResult
from tagmill_worker.builtin import build
from tagmill_worker.training.base import prepare_base
from tagmill_worker.training.cache import VectorCache
from tagmill_worker.training.calibration import softmax
from tagmill_worker.training.comparing import against, remember
from tagmill_worker.training.contents import Dataset, make_dataset
from tagmill_worker.training.dataset import list_dataset
from tagmill_worker.training.evaluation import evaluate
from tagmill_worker.training.features import Features
from tagmill_worker.training.finishing import Finishing
from tagmill_worker.training.fitted import fit_variant
from tagmill_worker.training.fitting import CHECKPOINT_S
from tagmill_worker.training.making import beside
from tagmill_worker.training.surroundings import Surroundings
from tagmill_worker.training.untrained import build_untrained
from tagmill_worker.training.versions import with_versions

BASE = ModelVersion(name=BUILT_IN, number=1)

FOLDS = 5
"""Of the holdout, for what is fitted on it."""


def train(
    request: TrainingRequest,
    *,
    settings: Settings,
    champion: ModelVersion | None = None,
    known_fingerprint: str | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    is_cancelled: Callable[[], bool] = lambda: False,
    base: ModelVersion = BASE,
    corrections: Mapping[str, str] | None = None,
    checkpoint_s: float = CHECKPOINT_S,
) -> TrainingResult:
    """Train a version, measure it, and make it part of the registry. Others promote it.

    Args:
        request: what to train.
        settings: registry, limits, roots, and the state folder that keeps what was done.
        champion: the version in use, if there is one.
        known_fingerprint: of a dataset for which nothing is to be trained.
        progress: told the stage, and how much of it is done of how much.
        is_cancelled: asked at every step.
        base: that the version stands on, unless it is trained from scratch.
        corrections: labels by URI that stand over the dataset's.
        checkpoint_s: seconds of fitting, at the most, that are done again after a kill.

    Raises:
        SourceError: if the dataset is none, or is to have no finding and has one.
        MissingError: if images cannot be read for now.
        ModelUnavailable: if the base, the champion or the registry cannot be used or written.
        StoreFull: if there is no room left.
        JobCancelled: if somebody cancelled it.
    """
    registry = open_registry(settings)
    where = Surroundings(
        settings=settings,
        registry=registry,
        progress=progress,
        is_cancelled=is_cancelled,
        checkpoint_s=checkpoint_s,
    )
    where.tidy()
    where.moved("listing", 0, 1)
    s3 = S3(settings)
    named = list_dataset(request.dataset, settings=settings, s3=s3, corrections=corrections)
    listed = with_versions(named, s3, check=where.check)
    where.moved("base", 0, 1)
    with beside(registry):
        pass  # else hours would pass before it is found that nothing can be written there
    if request.from_scratch:
        base = build_untrained(registry, SMALL)
    elif base == BASE:
        build(registry, settings.weights)
    stand = prepare_base(registry, base, where.folder / "bases")
    cache = VectorCache(where.folder / "vectors.db")
    features = partial(Features, cache, settings=settings, check=where.check)
    computing = features(progress=partial(where.moved, "features"))
    vectors = computing.of(listed.examples, stand.network)
    dataset = make_dataset(listed, vectors.read)
    if request.strict:
        _refuse_findings(dataset)
    if dataset.fingerprint == known_fingerprint:
        said = "the dataset is what it was at the last training: nothing to do"
        return TrainingResult(said=said, fingerprint=dataset.fingerprint)
    fitted = fit_variant(request, where, stand, dataset, vectors)
    truth = dataset.labels[dataset.is_holdout]
    evaluation = evaluate(fitted.logits, truth, dataset.classes, dataset.folds(FOLDS))
    comparison = None
    if champion is not None:
        asking = features(progress=partial(where.moved, "champion"))
        comparison = against(champion, registry, dataset, fitted.logits, asking)
    version, result = Finishing(
        request=request,
        where=where,
        base=stand,
        dataset=dataset,
        fitted=fitted,
        evaluation=evaluation,
        champion=champion,
        comparison=comparison,
    ).make()
    temperature = evaluation.calibration.temperature
    scores = softmax(fitted.logits / temperature).astype(np.float32)
    remember(cache, registry, version, dataset, scores)
    shutil.rmtree(where.work(fitted.key), ignore_errors=True)
    where.moved("done", 1, 1)
    return result


def _refuse_findings(dataset: Dataset) -> None:
    said = [finding.said for finding in dataset.findings if finding.kind != "passed_over"]
    if said:
        raise SourceError(
            f"{readable(dataset.name)} has findings, and is to have none: {'; '.join(said)}"
        )
