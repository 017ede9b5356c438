"""What a training set lists: images and their labels, checked before any of them is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

from tagmill.errors import SourceError
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import Source, file_version, open_source, path_of, readable
from tagmill.sources.manifest import ManifestSource
from tagmill.training import CORRECTIONS, clean_label
from tagmill_worker.training.manifest import in_manifest

MOST_CLASSES = 1_000
"""As many as ImageNet has, which the base was made for."""

LEAST_IMAGES = 5
"""Of a class, different ones: with fewer, the holdout and what is trained on have none to share."""

MOST_IMAGES = 500_000
"""What is seen of them lies in memory: some 15 KiB of each."""

_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """An image and what somebody says that it shows.

    Attributes:
        uri: as in `Item`.
        version: as in `Item`; empty where listing did not tell.
        label: in Unicode's composed form, so that one name is one class on every system.
        is_corrected: somebody gave the label by hand.
    """

    uri: str
    version: str
    label: str
    is_corrected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something about a dataset that its owner should know; work goes on unless it is strict.

    Attributes:
        kind: ``too_few``, ``two_labels``, ``unreadable``, ``changed``, ``astray``,
            ``unmeasured``, or ``passed_over`` for what was no image anyway.
        said: one sentence.
        examples: URIs that it is about, the first few.
    """

    kind: str
    said: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A dataset as it was listed, nothing of it read."""

    name: str
    examples: tuple[Example, ...]
    findings: tuple[Finding, ...] = ()


def list_dataset(
    text: str,
    *,
    settings: Settings,
    s3: S3,
    corrections: Mapping[str, str] | None = None,
) -> Listed:
    """List a dataset.

    Args:
        text: a folder or ``s3://bucket/prefix`` with a folder per class, or a manifest with a
            column or key ``label`` beside ``uri``; or `CORRECTIONS`: nothing but those.
        settings: with the roots that local files may be read from.
        s3: where buckets are.
        corrections: labels by URI that somebody gave by hand: they replace the dataset's, and
            images that it lacks are added.

    Raises:
        SourceError: if it cannot be listed, or can be no dataset whatever its images show.
    """
    if text == CORRECTIONS:
        listed = Listed(name=text, examples=())
    else:
        listed = _listed(open_source(text, leave_out=settings.state_dir, s3=s3), settings, s3)
    examples = _corrected(listed.examples, corrections or {})
    if len(examples) > MOST_IMAGES:
        raise _too_many(listed.name)
    cleaned = _cleaned(examples, readable(listed.name))
    _check_classes(cleaned, readable(listed.name))
    return replace(listed, examples=tuple(cleaned))


def _listed(source: Source, settings: Settings, s3: S3) -> Listed:
    """What a source lists, labels as they are."""
    _check_roots(source.name, settings.roots)
    astray: list[str] = []
    is_manifest = isinstance(source, ManifestSource)
    found = in_manifest(source, s3) if is_manifest else _in_folders(source, astray)
    examples = tuple(
        Example(uri=uri, version=version, label=label)
        for uri, version, label in _limited(found, source.name)
    )
    findings = [
        Finding(kind="passed_over", said=f"{count:,} entries were passed over: {why}")
        for why, count in sorted(source.passed_over.items())
    ]
    if astray:
        said = f"{len(astray):,} images are in no folder of a class: {astray[0]}"
        findings.append(Finding(kind="astray", said=said, examples=tuple(astray[:_SHOWN])))
    return Listed(name=source.name, examples=examples, findings=tuple(findings))


def _corrected(examples: Iterable[Example], corrections: Mapping[str, str]) -> list[Example]:
    left = dict(corrections)
    corrected = [
        replace(example, label=left.pop(example.uri), is_corrected=True)
        if example.uri in left
        else example
        for example in examples
    ]
    added = (
        Example(uri=uri, version=_version(uri), label=label, is_corrected=True)
        for uri, label in sorted(left.items())
    )
    return [*corrected, *added]


def _check_roots(name: str, roots: Iterable[Path]) -> None:
    if not name.startswith("file:"):
        return
    path = os.path.realpath(path_of(name))
    allowed = [os.path.realpath(root) for root in roots]
    if not any(os.path.commonpath([path, root]) == root for root in allowed):
        raise SourceError(
            f"{path_of(name)} is outside the allowed folders ({', '.join(allowed) or 'none'}): "
            "allow another with --root or TAGMILL_ROOTS"
        )


def _version(uri: str) -> str:
    return file_version(path_of(uri)) if uri.startswith("file:") else ""


def _limited(found: Iterable[tuple[str, str, str]], name: str) -> Iterator[tuple[str, str, str]]:
    for number, one in enumerate(found, 1):
        if number > MOST_IMAGES:
            raise _too_many(name)
        yield one


def _too_many(name: str) -> SourceError:
    return SourceError(
        f"{readable(name)} has more than {MOST_IMAGES:,} images, the limit of a dataset"
    )


def _in_folders(source: Source, astray: list[str]) -> Iterator[tuple[str, str, str]]:
    """Each image with the first folder on its way from the source's place."""
    prefix = source.name.rstrip("/") + "/"
    for uri, version in source.items():
        folder, slash, _ = uri.removeprefix(prefix).partition("/")
        if uri.startswith(prefix) and slash:
            yield uri, version, _unquoted(folder) if uri.startswith("file:") else folder
        else:
            astray.append(readable(uri))


def _unquoted(name: str) -> str:
    return os.fsdecode(unquote_to_bytes(name))


def _cleaned(examples: list[Example], name: str) -> list[Example]:
    cleaned: dict[str, str] = {}
    broken = []
    first = {example.label: example.uri for example in reversed(examples)}
    for label, uri in first.items():
        try:
            cleaned[label] = clean_label(label)
        except SourceError as error:
            broken.append(f"{error}, the first at {readable(uri)}")
    if broken:
        more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        raise SourceError(f"{name}: {'; '.join(sorted(broken)[:_SHOWN])}{more}")
    return [replace(example, label=cleaned[example.label]) for example in examples]


def _check_classes(examples: list[Example], name: str) -> None:
    if not examples:
        raise SourceError(
            f"{name} has no labelled image: a dataset is a folder per class, a manifest with "
            "'uri' and 'label', or what 'tagmill corrections add' was told"
        )
    counts = Counter(example.label for example in examples)
    if len(counts) == 1:
        raise SourceError(
            f"{name} has one class, {next(iter(counts))!r}: a classifier needs two or more"
        )
    if len(counts) > MOST_CLASSES:
        raise SourceError(f"{name} has {len(counts):,} classes, the limit is {MOST_CLASSES:,}")
