"""What a training is asked for and comes to, as frozen values. Nothing here does I/O."""

from __future__ import annotations

import enum
import json
import re
import unicodedata
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

from tagmill.contract import BUILT_IN, MESSAGE_VERSION, SMALL, TRAIN_QUEUE, Priority
from tagmill.errors import SourceError, UnknownModel, UsageError

TRAIN_TASK = "tagmill.train"

MOST_BLOCKS = 17
"""Inverted residual blocks of MobileNetV2 (arXiv:1801.04381, table 2): more cannot be tuned."""

CHAMPION = "champion"
"""The alias that a model's name alone means, once it is set."""

CORRECTIONS = "corrections:"
"""A dataset that is nothing but the labels that somebody gave by hand."""

MOST_LABEL_CHARACTERS = 100

_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


class TrainingState(enum.StrEnum):
    """Where a training stands. ``queued`` and ``running`` are the unfinished ones."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        return self not in UNFINISHED


UNFINISHED = (TrainingState.QUEUED, TrainingState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRequest:
    """A request that the store keeps as JSON."""

    called: ClassVar[str]

    def dump(self) -> str:
        """The request as JSON, in one form only: equal requests give equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def load(cls, text: str) -> Self:
        """Read what `dump` wrote.

        Raises:
            UsageError: if another release wrote it.
        """
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise UsageError(f"{cls.called} {text:.200} is of another release") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRequest(StoredRequest):
    """What somebody asked to be trained.

    Attributes:
        name: of the model that a version is made of.
        dataset: a folder per class or a manifest ``uri,label``, made absolute; or `CORRECTIONS`.
        with_corrections: labels that were given by hand stand over the dataset's.
        fine_tune_blocks: how many of the base's top blocks are trained too.
        min_gain: accuracy on the holdout that the new version must have more than the champion.
        strict: any finding in the dataset stops it.
        seed: of all that is drawn.
        from_scratch: all of a small network is trained, which knows nothing and needs no weights.
        skip_unchanged: nothing is trained where the dataset is that of the last training done.
    """

    called: ClassVar[str] = "the training"

    name: str
    dataset: str
    with_corrections: bool = False
    fine_tune_blocks: int = 0
    min_gain: float = 0.0
    strict: bool = False
    seed: int = 0
    from_scratch: bool = False
    skip_unchanged: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: naming what and why.
        """
        check_own_name(self.name)
        if not 0 <= self.fine_tune_blocks <= MOST_BLOCKS:
            raise UsageError(
                f"fine_tune_blocks is {self.fine_tune_blocks}, it may be 0 to {MOST_BLOCKS}"
            )
        if not 0 <= self.min_gain <= 1:
            raise UsageError(f"min_gain is {self.min_gain}, it may be 0 to 1")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"seed is {self.seed}, it may be 0 to {2**31 - 1}")

    @property
    def heeds_corrections(self) -> bool:
        return self.with_corrections or self.dataset == CORRECTIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        said: one sentence for a person.
        fingerprint: of the dataset, in hex.
        version: the number of the version that was made; ``None`` where the dataset is unchanged.
        compared_with: the champion's version that it was measured against, if there was one.
        is_better: so much that it is to be promoted, and passed its probe.
        about: metrics, the report's path, and whatever else a person may want, as JSON has it.
    """

    said: str
    fingerprint: str
    version: int | None = None
    compared_with: int | None = None
    is_better: bool = False
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainMessage:
    """The body of one message of the queue ``train``: which training to wake up for."""

    task: ClassVar[str] = TRAIN_TASK
    queue: ClassVar[str] = TRAIN_QUEUE
    priority: ClassVar[Priority] = Priority.NORMAL

    training: str

    def as_kwargs(self) -> dict[str, object]:
        return {"v": MESSAGE_VERSION, "training": self.training}


def check_own_name(name: str) -> None:
    """Refuse a name that no model of a user's can have.

    Raises:
        UnknownModel: if it is no name.
        UsageError: if it is that of a built-in model.
    """
    check_model_name(name)
    if name in (BUILT_IN, SMALL):
        raise UsageError(f"{name} is a built-in model: name a model of your own")


def check_model_name(name: str) -> None:
    """Refuse a name that no model can have.

    Raises:
        UnknownModel: naming it.
    """
    if not _NAME.fullmatch(name):
        raise UnknownModel(
            f"{name!r:.100} is no name of a model: up to 64 of a-z, 0-9, '_', '.' and '-', and the "
            "first is a letter or digit"
        )


def clean_label(text: str) -> str:
    """A label as it is kept: composed Unicode, no space around it.

    Raises:
        SourceError: if it cannot be one, saying why.
    """
    label = unicodedata.normalize("NFC", text).strip()
    if not label:
        raise SourceError("a label is empty")
    if _CONTROL.search(label):
        raise SourceError(
            f"the label {label!r:.120} has a line break, a control character or bytes that are "
            "not UTF-8: rename it"
        )
    if len(label) > MOST_LABEL_CHARACTERS:
        raise SourceError(
            f"the label {label!r:.60}… has {len(label):,} characters, "
            f"the limit is {MOST_LABEL_CHARACTERS}"
        )
    return label
