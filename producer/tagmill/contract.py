"""The words that every part of tagmill shares, as frozen values.

Nothing here does I/O. What crosses a process boundary (a message, the items of a chunk, the
labels of an outcome) is parsed here, once, and trusted afterwards.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

MESSAGE_VERSION = 1
LABEL_TASK = "tagmill.label"
LABEL_QUEUE = "label"
TICK_TASK = "tagmill.tick"
LIST_TASK = "tagmill.list"
TRAIN_QUEUE = "train"
CONTROL_QUEUE = "control"

BUILT_IN = "mobilenet_v2"
"""The model that tagmill builds itself, from the ImageNet weights, as version 1."""

SMALL = "mobilenet_v2_small"
"""The model that tagmill builds itself where there are no weights: narrow, trained on nothing."""


class Priority(enum.StrEnum):
    """Which of two jobs lanes take first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class ErrorCode(enum.StrEnum):
    """What kept an item from being labelled."""

    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    OUTSIDE_ROOTS = "outside_roots"
    ARCHIVED = "archived"
    LANE_LOST = "lane_lost"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


# Failures that lie in the item's own bytes: the same version would fail the same way again, so a
# later job takes them over as it takes over labels. Limits and lost lanes depend on more.
SETTLED_BY_CONTENT = frozenset({ErrorCode.NOT_AN_IMAGE, ErrorCode.CORRUPT})

TRANSIENT_CODES = frozenset({ErrorCode.UNAVAILABLE})
"""Throttling, time-outs, connection loss: another try may succeed though nothing was changed."""

IMAGE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM")
"""What Pillow may try on a file: raster formats only, none that starts another program."""


class JobState(enum.StrEnum):
    """Where a job stands. ``listing`` and ``running`` are the unfinished ones.

    A ``superseded`` job was interrupted, and a later run of the same request went on.
    """

    LISTING = "listing"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @property
    def is_finished(self) -> bool:
        return self not in UNFINISHED


UNFINISHED = (JobState.LISTING, JobState.RUNNING)


BY_HAND = "by hand"
"""Why a job is paused that somebody paused; other reasons are a lane's."""

NEARLY_ALL_FAILED = "nearly all of its images fail"
"""How the reason begins why a job is paused whose first items failed."""


class ChunkState(enum.StrEnum):
    """Where a chunk stands in the ledger. One that is ``put_off`` is queued later."""

    QUEUED = "queued"
    PUT_OFF = "put_off"
    CLAIMED = "claimed"
    DONE = "done"


class Status(enum.StrEnum):
    """How an item ended."""

    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image of a source.

    Attributes:
        n: its number within the job, counted from 0 in listing order; an outcome keeps it.
        uri: ``file://`` with the path's bytes percent-encoded, or ``s3://bucket/key``.
        version: what changes when the image does: ``size-mtime_ns`` for local files, ``size-etag``
            for objects, empty where it was not known at listing.
    """

    n: int
    uri: str
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """One class that the model saw in an image; ``score`` in [0, 1]."""

    id: str
    name: str
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one item: its labels, or an error code and a sentence.

    Attributes:
        width: pixels of the upright image, ``None`` where it could not be read.
        height: as ``width``.
        labels: best first; empty where ``status`` is failed.
    """

    n: int
    uri: str
    version: str
    status: Status
    error: ErrorCode | None = None
    message: str | None = None
    width: int | None = None
    height: int | None = None
    labels: tuple[Label, ...] = ()


class Message(Protocol):
    """One broker message: which task wakes up for it, on which queue, and its body."""

    @property
    def task(self) -> str: ...

    @property
    def queue(self) -> str: ...

    @property
    def priority(self) -> Priority: ...

    def as_kwargs(self) -> dict[str, object]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ListMessage:
    """Wakes a lane up to list the source of a job."""

    task: ClassVar[str] = LIST_TASK
    queue: ClassVar[str] = CONTROL_QUEUE
    priority: ClassVar[Priority] = Priority.NORMAL

    job: str

    def as_kwargs(self) -> dict[str, object]:
        return {"v": MESSAGE_VERSION, "job": self.job}


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkMessage:
    """The body of one broker message: which chunk to wake up for, nothing more.

    Attributes:
        priority: of its job; the broker's business, not in the body.
    """

    task: ClassVar[str] = LABEL_TASK
    queue: ClassVar[str] = LABEL_QUEUE

    job: str
    seq: int
    priority: Priority = Priority.NORMAL

    def as_kwargs(self) -> dict[str, object]:
        return {"v": MESSAGE_VERSION, "job": self.job, "seq": self.seq}


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimedChunk:
    """A chunk that this lane owns until its lease ends.

    Attributes:
        attempt: the fencing token: a commit counts only while it is still the ledger's.
        losses: claims before this one that ended in a lost lane.
        was_put_off: its items could not be read before, and this is their last try.
        priority: of its job.
    """

    job: str
    seq: int
    attempt: int
    losses: int
    was_put_off: bool
    priority: Priority
    model: str
    top_k: int
    items: tuple[Item, ...]

    @property
    def put_off_codes(self) -> frozenset[ErrorCode]:
        """The errors after which an item is tried once more, later, and has no outcome yet."""
        return frozenset() if self.was_put_off else TRANSIENT_CODES


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkTimings:
    """Where one chunk's time went, in seconds.

    ``waiting_s`` and ``commit_s`` tell of the pause and the commit before this chunk: a chunk
    cannot hold the time of its own commit.
    """

    fetch_s: float = 0.0
    decode_s: float = 0.0
    predict_s: float = 0.0
    commit_s: float = 0.0
    waiting_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkSummary:
    """What a committed chunk tells whoever watches the job.

    Attributes:
        seen: how often each best label was seen, as ``{name: count}``.
        failures: how often each error code occurred.
    """

    lane: str
    timings: ChunkTimings = field(default_factory=ChunkTimings)
    seen: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)


def dump_items(items: Iterable[Item]) -> str:
    """Write a chunk's items as the JSON that the ledger holds: ``[[n, uri, version], …]``."""
    return json.dumps([(item.n, item.uri, item.version) for item in items], separators=(",", ":"))


def load_items(text: str) -> tuple[Item, ...]:
    """Read what `dump_items` wrote."""
    return tuple(Item(n=n, uri=uri, version=version) for n, uri, version in json.loads(text))


def dump_labels(labels: Sequence[Label]) -> str:
    """Write labels as JSON, in the form that results carry them."""
    return json.dumps(
        [{"id": label.id, "name": label.name, "score": label.score} for label in labels],
        separators=(",", ":"),
        ensure_ascii=False,
    )


def load_labels(text: str) -> tuple[Label, ...]:
    """Read what `dump_labels` wrote."""
    return tuple(
        Label(id=row["id"], name=row["name"], score=row["score"]) for row in json.loads(text)
    )
