"""Every error that tagmill raises on purpose.

::

    TagmillError
    ├── UsageError            the user asked for something that cannot be (exit 2)
    │   ├── SourceError       a source that is not there, is empty, or cannot be read as one
    │   ├── UnknownModel      no such model or version in the registry
    │   ├── VersionTaken      the registry has that version: it never changes
    │   ├── UnknownJob        no such job in the store
    │   ├── UnknownTraining   no such training in the store
    │   └── UnknownSchedule   no such schedule in the store
    ├── MissingError          a service, file or package is missing (exit 3)
    │   ├── ModelUnavailable  a model could not be built: no weights and no way to get them
    │   │   └── ModelAway     a model cannot be had for now: the registry is away, this disk full
    │   ├── StateFolderError  the state folder is in use, of another version, or not writable
    │   ├── StoreError        the results store is away, full, or of another version
    │   │   ├── StoreAway     it does not answer for now: another try may succeed
    │   │   └── StoreFull     no room left where the store writes
    │   ├── BrokerError       the broker is away or refuses
    │   │   └── BrokerAway    it does not answer for now: another try may succeed
    │   ├── WorkerStopped     the lanes ended before the work did
    │   ├── JobPaused         the job that was waited for makes no sense as it is
    │   ├── JobCancelled      somebody cancelled the job that was waited for
    │   └── TrainingFailed    the training that was waited for made no version
    ├── MessageError          a message that is not ours
    ├── ClaimLost             somebody else owns the chunk or training now: keep nothing
    └── ItemError             one item cannot be labelled; carries its error code
        ├── PermanentItemError
        └── TransientItemError

*Permanent* and *transient* are the branches that matter to a lane: the first becomes the
item's outcome, the second is worth another try.
"""

from __future__ import annotations

from typing import ClassVar

from tagmill.contract import ErrorCode


class TagmillError(Exception):
    """The root of all errors that tagmill raises on purpose."""

    exit_code: ClassVar[int] = 3


class UsageError(TagmillError):
    """The user asked for something that cannot be."""

    exit_code = 2


class SourceError(UsageError):
    """A source that does not exist, is empty, or cannot be read as one."""


class UnknownModel(UsageError):
    """No such model or version in the registry."""


class VersionTaken(UsageError):
    """The registry has a version of that name, and a version never changes."""


class UnknownJob(UsageError):
    """No such job in the store."""


class UnknownTraining(UsageError):
    """No such training in the store."""


class UnknownSchedule(UsageError):
    """No such schedule in the store."""


class MissingError(TagmillError):
    """A service, a file or a package that the work needs is missing."""


class ModelUnavailable(MissingError):
    """A model version is not in the registry and could not be built."""


class ModelAway(ModelUnavailable):
    """A model version cannot be had for now: another try may succeed."""


class StateFolderError(MissingError):
    """The state folder is in use, of another version, or cannot be written."""


class StoreError(MissingError):
    """The results store is away, refuses, or is of another version."""


class StoreAway(StoreError):
    """The results store does not answer for now: another try may succeed."""


class StoreFull(StoreError):
    """There is no room left where the store writes."""


class BrokerError(MissingError):
    """The broker is away or refuses."""


class BrokerAway(BrokerError):
    """The broker does not answer for now: another try may succeed."""


class WorkerStopped(MissingError):
    """The lanes ended before the work did."""


class JobPaused(MissingError):
    """The job that was waited for was paused, since lanes could make nothing of it."""


class JobCancelled(MissingError):
    """Somebody cancelled the job that was waited for."""


class TrainingFailed(MissingError):
    """The training that was waited for failed, or somebody cancelled it."""


class MessageError(TagmillError):
    """A message that is not ours: too long, malformed, or of another version."""


class ClaimLost(TagmillError):
    """Somebody else owns the chunk or training now; what this lane computed must not be kept."""


class ItemError(TagmillError):
    """One item cannot be labelled.

    Attributes:
        code: what kind of failure, from the contract.
        message: one sentence for a person.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class PermanentItemError(ItemError):
    """Another try would end the same way: this becomes the item's outcome."""


class TransientItemError(ItemError):
    """Another try may succeed: throttling, time-outs, connection loss."""
