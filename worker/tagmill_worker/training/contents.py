"""A dataset once its images were read: one entry for each content, on its side of the split."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tagmill.errors import SourceError
from tagmill.sources import printable, readable
from tagmill_worker.training.dataset import LEAST_IMAGES, Example, Finding, Listed

HOLDOUT, VALIDATION = 0.2, 0.2
"""The holdout's part of all images, and that of the rest by which training is stopped early."""

MOST_UNREADABLE = 0.1
"""Of all images: with more, something is wrong where they lie, and not with them."""

_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """What reading one image gave.

    Attributes:
        digest: SHA-256 of its bytes in hex, empty where it cannot be used.
        version: of what was read.
        error: what keeps it from being used, empty where nothing does.
    """

    digest: str = ""
    version: str = ""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Images by content, ordered by their digest: whatever lies where, it is the same dataset.

    Attributes:
        name: of its source.
        classes: labels by name, in the model's order.
        examples: one for each content.
        digests: of the contents.
        labels: the number of each one's class.
        is_holdout: which ones are never trained on.
        is_validation: which of the others say when training stops.
        findings: all that its owner should know.
        fingerprint: changes when a content or a label does.
    """

    name: str
    classes: tuple[str, ...]
    examples: tuple[Example, ...]
    digests: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    is_holdout: npt.NDArray[np.bool_]
    is_validation: npt.NDArray[np.bool_]
    findings: tuple[Finding, ...]
    fingerprint: str

    def numbers(self, chosen: npt.NDArray[np.bool_]) -> list[int]:
        """The places of chosen images in the order of this dataset."""
        return [int(number) for number in np.flatnonzero(chosen)]

    def folds(self, count: int) -> npt.NDArray[np.int64]:
        """A fold for each image of the holdout, by its content."""
        held_out = (self.digests[number] for number in self.numbers(self.is_holdout))
        return np.array([int(digest[16:24], 16) % count for digest in held_out], np.int64)


def make_dataset(listed: Listed, read: Sequence[Read]) -> Dataset:
    """Put together what was listed and what reading gave.

    A content under two labels is left out, and so are classes that too few images are left of.

    Raises:
        SourceError: if too many images cannot be read, fewer than two classes remain, or the
            holdout is empty.
    """
    findings = [*listed.findings, *_unreadable(listed, read)]
    by_digest: dict[str, list[Example]] = defaultdict(list)
    for example, found in zip(listed.examples, read, strict=True):
        if found.digest:
            by_digest[found.digest].append(example)
    for digest, same in by_digest.items():  # who corrected it looked at it
        by_digest[digest] = [example for example in same if example.is_corrected] or same
    doubtful = {
        digest: same for digest, same in by_digest.items() if len({e.label for e in same}) > 1
    }
    if doubtful:
        findings.append(_two_labels(doubtful))
    sure = {digest: same[0] for digest, same in by_digest.items() if digest not in doubtful}
    counts = Counter(example.label for example in sure.values())
    few = {
        label: counts[label]
        for label in sorted({example.label for example in listed.examples})
        if counts[label] < LEAST_IMAGES
    }
    if few:
        findings.append(_too_few(few))
    kept = sorted(
        ((digest, e) for digest, e in sure.items() if e.label not in few), key=lambda pair: pair[0]
    )
    classes = tuple(sorted(set(counts) - set(few)))
    if len(classes) < 2:
        said = "; ".join(finding.said for finding in findings if finding.kind != "passed_over")
        raise SourceError(
            f"{readable(listed.name)} leaves {len(classes)} of the two classes that a classifier "
            f"needs: {said}"
        )
    return _split(listed.name, classes, kept, findings)


def _split(
    name: str, classes: tuple[str, ...], kept: list[tuple[str, Example]], findings: list[Finding]
) -> Dataset:
    number = {label: i for i, label in enumerate(classes)}
    digests = tuple(digest for digest, _ in kept)
    is_holdout = _drawn(digests, HOLDOUT, lambda digest: digest[:8])
    is_validation = _drawn(digests, VALIDATION, lambda digest: digest[8:16]) & ~is_holdout
    labels = np.array([number[example.label] for _, example in kept], np.int64)
    for what, chosen in (("holdout", is_holdout), ("training part", ~is_holdout)):
        missing = sorted(set(range(len(classes))) - set(labels[chosen].tolist()))
        if len(missing) == len(classes) or (missing and what != "holdout"):
            raise SourceError(
                f"{readable(name)}: by the hash of their content the {what} has no image of "
                f"{_named([classes[i] for i in missing])}: add images"
            )
        if missing:
            findings.append(
                Finding(
                    kind="unmeasured",
                    said=f"the holdout has no image of {_named([classes[i] for i in missing])}: "
                    "nothing is known of how well they are told",
                )
            )
    lines = "".join(f"{digest} {example.label}\n" for digest, example in kept)
    return Dataset(
        name=name,
        classes=classes,
        examples=tuple(example for _, example in kept),
        digests=digests,
        labels=labels,
        is_holdout=is_holdout,
        is_validation=is_validation,
        findings=tuple(findings),
        fingerprint=hashlib.sha256(lines.encode()).hexdigest(),
    )


def _drawn(
    digests: Sequence[str], part: float, digits: Callable[[str], str]
) -> npt.NDArray[np.bool_]:
    """Which contents fall into a part, each by its own digest alone: for ever on one side."""
    return np.array([int(digits(digest), 16) < part * 2**32 for digest in digests], np.bool_)


def _unreadable(listed: Listed, read: Sequence[Read]) -> list[Finding]:
    failed = [
        f"{readable(example.uri)}: {found.error}"
        for example, found in zip(listed.examples, read, strict=True)
        if found.error
    ]
    changed = [
        readable(example.uri)
        for example, found in zip(listed.examples, read, strict=True)
        if found.digest and example.version and found.version != example.version
    ]
    findings = []
    if failed:
        said = f"{len(failed):,} of {len(read):,} images cannot be read: {failed[0]}"
        if len(failed) > MOST_UNREADABLE * len(read):
            raise SourceError(
                f"{readable(listed.name)}: {said}; that is {100 * len(failed) / len(read):.1f} %, "
                f"the limit is {100 * MOST_UNREADABLE:.0f} %"
            )
        findings.append(Finding(kind="unreadable", said=said, examples=tuple(failed[:_SHOWN])))
    if changed:
        said = (
            f"changed while the dataset was read, and taken as they were read: "
            f"{len(changed):,}, the first {changed[0]}"
        )
        findings.append(Finding(kind="changed", said=said, examples=tuple(changed[:_SHOWN])))
    return findings


def _two_labels(doubtful: dict[str, list[Example]]) -> Finding:
    shown = [
        " and ".join(f"{readable(example.uri)} ({example.label})" for example in same[:3])
        for same in doubtful.values()
    ]
    return Finding(
        kind="two_labels",
        said=f"left out, being under two labels: {len(doubtful):,}, the first {shown[0]}",
        examples=tuple(shown[:_SHOWN]),
    )


def _too_few(few: dict[str, int]) -> Finding:
    counted = [f"{printable(label)} ({count})" for label, count in few.items()]
    return Finding(
        kind="too_few",
        said=f"left out, with fewer than {LEAST_IMAGES} different images that can be used: "
        f"{_named(counted)}",
        examples=tuple(counted[:_SHOWN]),
    )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
