"""Sources: what a user names, turned into items in a stable order.

A source yields ``(uri, version)`` pairs, plain tuples because a folder has hundreds of thousands
of them, and tells afterwards what it passed over and why.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tagmill.errors import SourceError
from tagmill.s3 import S3, parse_s3_uri, s3_uri
from tagmill.sources.bucket import BucketSource
from tagmill.sources.folder import FolderSource
from tagmill.sources.glob import GlobSource, fixed_part, is_pattern
from tagmill.sources.local import file_uri, file_version, path_of, printable, readable
from tagmill.sources.manifest import SUFFIXES as MANIFEST_SUFFIXES
from tagmill.sources.manifest import ManifestSource
from tagmill.sources.position import Position
from tagmill.sources.selection import Selection

__all__ = [
    "EVERYTHING",
    "BucketSource",
    "FolderSource",
    "Position",
    "Selection",
    "Source",
    "default_roots",
    "file_uri",
    "file_version",
    "open_source",
    "path_of",
    "printable",
    "readable",
    "source_name",
]


class Source(Protocol):
    """Where items come from.

    Attributes:
        name: the source as the ledger records it: absolute, percent-encoded.
        passed_over: after listing, how many entries were left out, by reason.
    """

    name: str
    passed_over: Counter[str]

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """Yield ``(uri, version)`` in a stable order.

        Args:
            after: a place in an earlier listing; what comes behind it in the order is yielded,
                whatever was added or removed meanwhile.

        Raises:
            SourceError: if the source cannot be read, or ``after`` is no place in it.
        """


class FileSource:
    """A single file that the user named, whatever its suffix; the selection is of its name."""

    def __init__(self, path: str, *, selection: Selection) -> None:
        self.name = file_uri(path)
        self.passed_over: Counter[str] = Counter()
        self._path = path
        self._selection = selection

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """Yield the one file; nothing comes after it.

        Raises:
            SourceError: if ``after`` is another file's place: this was another kind of source.
        """
        self.passed_over.clear()
        if after is not None:
            if after.uri != self.name:
                raise SourceError(f"{after.uri} is no place in {self.name}, which is one file now")
            return
        if why := self._selection.refusal(os.path.basename(self._path)):
            self.passed_over[why] += 1
        else:
            yield self.name, file_version(self._path)


EVERYTHING = Selection()
"""No pattern at all: what a source lists by itself."""


def open_source(text: str, *, leave_out: Path, s3: S3, selection: Selection = EVERYTHING) -> Source:
    """Find out what a user means by a source.

    Args:
        text: a folder, a file, a glob, a manifest (``.txt``, ``.csv``, ``.jsonl``, in S3 too), or
            ``s3://bucket/prefix``.
        leave_out: a folder that is never listed, as it holds tagmill's own files.
        s3: where buckets are.
        selection: which of the items are wanted.

    Raises:
        SourceError: if nothing of that name exists, or its kind is not known.
    """
    _check_name(text)
    if text.startswith("s3:"):
        if parse_s3_uri(text)[1].lower().endswith(MANIFEST_SUFFIXES):
            return ManifestSource(text, s3=s3, selection=selection)
        return BucketSource(text, s3=s3, selection=selection)
    if text.startswith("file:"):
        text = path_of(text)
    elif "://" in text:
        raise SourceError(
            f"{text:.200}: sources are folders, files, globs, manifests and s3://bucket/prefix"
        )
    path = os.path.abspath(os.path.expanduser(text))
    if os.path.isdir(path):
        return FolderSource(path, leave_out=os.path.abspath(leave_out), selection=selection)
    if os.path.lexists(path):
        if path.lower().endswith(MANIFEST_SUFFIXES):
            if not os.path.isfile(path):
                raise SourceError(f"{text}: a manifest is a regular file, this is none")
            return ManifestSource(path, s3=s3, selection=selection)
        return FileSource(path, selection=selection)
    if is_pattern(path):
        return GlobSource(path, leave_out=os.fspath(leave_out), selection=selection)
    raise SourceError(f"{text:.200}: no such file or folder")


def source_name(text: str) -> str:
    """The `Source.name` of what a user names, whether or not it is there (any more).

    Raises:
        SourceError: if it can be no source.
    """
    _check_name(text)
    if text.startswith("s3:"):
        return s3_uri(*parse_s3_uri(text))
    path = path_of(text) if text.startswith("file:") else os.path.expanduser(text)
    return file_uri(os.path.abspath(path))


def _check_name(text: str) -> None:
    if not text:
        raise SourceError("the source is empty: name a folder, a file, a glob or a manifest")
    try:
        is_name = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise SourceError(f"{text!r:.200} is no name that a file or an object can have")


def default_roots(name: str) -> tuple[Path, ...]:
    """The folder that a source's items may be read from where the user set no roots.

    Args:
        name: a source's `Source.name`; it need not exist any more.
    """
    if name.startswith("s3:"):
        return ()
    path = path_of(name)
    if os.path.isdir(path):
        return (Path(path),)
    return (Path(fixed_part(path)) if is_pattern(path) else Path(path).parent,)
