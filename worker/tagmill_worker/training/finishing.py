"""The last steps of a training: a version of files, its probe, its report, and its publication."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tagmill.errors import ModelUnavailable
from tagmill.registry import ModelVersion
from tagmill.s3 import S3
from tagmill.sources import readable
from tagmill.thumbnails import Thumbnails
from tagmill.training import TrainingRequest, TrainingResult
from tagmill.version import __version__
from tagmill_worker.training.base import Base
from tagmill_worker.training.contents import Dataset
from tagmill_worker.training.dataset import Example
from tagmill_worker.training.evaluation import Comparison, Evaluation
from tagmill_worker.training.fitted import Fitted
from tagmill_worker.training.making import Built, built, publish, scores_model, write_card
from tagmill_worker.training.probe import PROBE_IMAGES, Probed, probe
from tagmill_worker.training.report import Facts, write_report
from tagmill_worker.training.surroundings import Surroundings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Finishing:
    """What a version and its report tell, all of it known.

    Attributes:
        request: what was wanted.
        where: to work.
        base: that the version stands on.
        dataset: that it was trained on.
        fitted: its model.
        evaluation: on the holdout.
        champion: the version in use, if there is one.
        comparison: with it.
    """

    request: TrainingRequest
    where: Surroundings
    base: Base
    dataset: Dataset
    fitted: Fitted
    evaluation: Evaluation
    champion: ModelVersion | None
    comparison: Comparison | None

    def make(self) -> tuple[ModelVersion, TrainingResult]:
        """Make the version, probe it, write its report and publish it, unless that was done."""
        registry, name = self.where.registry, self.request.name
        if (done := self._made_before()) is not None:
            probed = Probed(**registry.card(done).about["probe"])
            verdict = self._accuracy if done == self.champion else self._said(probed)
            said = (
                f"it is {done} again, made of the same dataset, with the report of then: {verdict}"
            )
            return done, self._result(done, probed, said)
        self.where.moved("making", 0, 1)
        geometry = self.base.network.geometry
        model = scores_model(self.fitted.model, self.evaluation.calibration.temperature)
        classes = self.dataset.classes
        with built(registry, name, model, classes=classes, geometry=geometry) as made:
            self.where.moved("probe", 0, 1)
            settings = self.where.settings
            probed = probe(
                made.registry,
                made.version,
                model,
                self._probe_set(),
                settings=settings,
                check=self.where.check,
            )
            self.where.moved("report", 0, 1)
            self._describe(made, probed)
            rewrite = partial(self._describe, probed=probed)
            version = publish(registry, made, rewrite)
        return version, self._result(version, probed, self._said(probed))

    def _made_before(self) -> ModelVersion | None:
        """The version that an equal training made, or this very one before it was killed."""
        for version in reversed(self.where.registry.versions(self.request.name)):
            try:
                card = self.where.registry.card(version)
            except ModelUnavailable as error:  # which is no reason to make nothing
                log.warning("a version is left out: %s", error)
                continue
            if card.about.get("training") == self._key:
                return version
        return None

    @property
    def _key(self) -> str:
        parts = (
            __version__, self.request.name, self.request.fine_tune_blocks, self.request.seed,
            self.dataset.fingerprint, self.base.network.key,
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _probe_set(self) -> list[Example]:
        """Images of the training part, evenly over it: its order is that of hashes."""
        numbers = self.dataset.numbers(~self.dataset.is_holdout)
        step = max(1, len(numbers) // PROBE_IMAGES)
        return [self.dataset.examples[number] for number in numbers[::step][:PROBE_IMAGES]]

    def _describe(self, made: Built, probed: Probed) -> None:
        """Write the report, and the card that names it."""
        settings = self.where.settings
        facts = Facts(
            version=str(made.version),
            dataset=self.dataset,
            evaluation=self.evaluation,
            comparison=self.comparison,
            probed=probed,
            is_better=self._is_better(probed),
            said=self._said(probed),
            parameters=self._parameters,
        )
        thumbnails = Thumbnails(
            settings.state_dir / "thumbnails", settings=settings, s3=S3(settings)
        )
        write_report(made.folder / "report.html", facts, thumbnails)
        about = {
            "training": self._key,
            "dataset": readable(self.dataset.name),
            "fingerprint": self.dataset.fingerprint,
            "parameters": self._parameters,
            "metrics": self._metrics,
            "probe": asdict(probed),
        }
        classes = len(self.dataset.classes)
        write_card(made, about, classes=classes, geometry=self.base.network.geometry)

    def _is_better(self, probed: Probed) -> bool:
        is_gain = self.comparison is None or self.comparison.is_better(self.request.min_gain)
        return probed.passed and is_gain

    def _said(self, probed: Probed) -> str:
        if not probed.passed:
            return f"it failed its probe: {probed.said}; {self._accuracy}"
        if self.comparison is None:
            return f"the first of its name: {self._accuracy}"
        return f"{self.comparison.said(self.request.min_gain)}; {self._accuracy}"

    @property
    def _accuracy(self) -> str:
        return f"accuracy {self.evaluation.accuracy} on {self.evaluation.images:,} images"

    @property
    def _metrics(self) -> dict[str, Any]:
        calibration = self.evaluation.calibration
        return {
            "holdout_images": self.evaluation.images,
            "accuracy": asdict(self.evaluation.accuracy),
            "classes": [asdict(one) for one in self.evaluation.classes],
            "calibration_error_before": calibration.error_before,
            "calibration_error_after": calibration.error_after,
            "temperature": calibration.temperature,
            "confusions": [
                {"label": pair.label, "said": pair.said, "count": pair.count}
                for pair in self.evaluation.confusions
            ],
            "comparison": None if self.comparison is None else asdict(self.comparison),
        }

    @property
    def _parameters(self) -> dict[str, Any]:
        return {
            "base": str(self.base.version),
            "images_trained_on": int((~self.dataset.is_holdout).sum()),
            "epochs": self.fitted.epochs,
            "from_scratch": self.base.is_untrained,
            "corrections": sum(example.is_corrected for example in self.dataset.examples),
            "fine_tune_blocks": self.request.fine_tune_blocks,
            "seed": self.request.seed,
            "min_gain": self.request.min_gain,
        }

    def _result(self, version: ModelVersion, probed: Probed, said: str) -> TrainingResult:
        champion = self.champion
        return TrainingResult(
            said=said,
            fingerprint=self.dataset.fingerprint,
            version=version.number,
            compared_with=champion.number if champion else None,
            is_better=self._is_better(probed),
            about={
                "metrics": self._metrics,
                "corrections": self._parameters["corrections"],
                "findings": [asdict(finding) for finding in self.dataset.findings],
                "probe": asdict(probed),
                "report": f"{self.where.registry.where(version)}/report.html",
            },
        )
