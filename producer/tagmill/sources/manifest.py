"""A manifest: a file that lists URIs or paths.

One a line (``.txt``), in a column ``uri`` (``.csv``), or under a key ``uri`` (``.jsonl``).
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from tagmill.errors import SourceError
from tagmill.s3 import parse_s3_uri, s3_uri
from tagmill.sources.local import file_uri, file_version, path_of
from tagmill.sources.position import Position
from tagmill.sources.selection import Selection

SUFFIXES = (".txt", ".csv", ".jsonl")
_MOST_CHARACTERS = 16_384
_SHOWN = 5


class ManifestSource:
    """The files that a manifest lists, in its order. Relative paths start at its folder.

    Args:
        path: absolute; its suffix says the format.
        selection: of paths and of the URIs of objects.
    """

    def __init__(self, path: str, *, selection: Selection) -> None:
        self.name = file_uri(path)
        self.passed_over: Counter[str] = Counter()
        self._path = path
        self._selection = selection

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """Yield ``(uri, version)``; the version is empty for a file that is not there.

        The whole manifest is checked first, so that a broken line stops it before any work.
        A manifest may have grown since an earlier listing; up to ``after`` it must be the same.

        Raises:
            SourceError: naming the broken lines, or the entry that is another than it was.
        """
        self.passed_over.clear()
        broken = [(number, fault) for number, _, fault in self._rows() if fault]
        if broken:
            lines = "; ".join(f"line {number}: {fault}" for number, fault in broken[:_SHOWN])
            more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
            raise SourceError(f"{self._path}: {lines}{more}")
        uris = self._wanted(uri for _, uri, _ in self._rows())
        if after is not None and after.n:
            last = next(islice(uris, after.n - 1, None), None)
            if last != after.uri:
                raise SourceError(
                    f"{self._path} was changed: its entry {after.n:,} was {after.uri}, "
                    f"now it is {last or 'missing'}; list it from its beginning"
                )
        for uri in uris:
            yield uri, file_version(path_of(uri)) if uri.startswith("file:") else ""

    def _wanted(self, uris: Iterable[str]) -> Iterator[str]:
        for uri in uris:
            why = self._selection.refusal(path_of(uri) if uri.startswith("file:") else uri)
            if why:
                self.passed_over[why] += 1
            else:
                yield uri

    def _rows(self) -> Iterator[tuple[int, str, str]]:
        """Each entry as (line number, URI, what is wrong with it or nothing)."""
        folder = os.path.dirname(self._path)
        try:
            for number, text in self._entries():
                if isinstance(text, SourceError):
                    yield number, "", str(text)
                    continue
                try:
                    yield number, _uri(text, folder), ""
                except SourceError as error:
                    yield number, "", str(error)
        except OSError as error:
            raise SourceError(f"{self._path}: {error.strerror}") from error

    def _entries(self) -> Iterator[tuple[int, str | SourceError]]:
        # Names of files are bytes: what is not UTF-8 travels as surrogates.
        with open(self._path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if self._path.lower().endswith(".csv"):
                yield from _csv_entries(file)
                return
            is_jsonl = self._path.lower().endswith(".jsonl")
            for number, line in enumerate(file, 1):
                text = line.rstrip("\r\n")
                if not text.strip() or (text.startswith("#") and not is_jsonl):
                    continue
                yield number, _json_entry(text) if is_jsonl else text


def _csv_entries(file: Iterator[str]) -> Iterator[tuple[int, str | SourceError]]:
    reader = csv.DictReader(file, strict=True)
    try:
        if "uri" not in (reader.fieldnames or []):
            yield 1, SourceError(f"no column 'uri' among {reader.fieldnames or 'none'}")
            return
        for row in reader:
            uri = row["uri"]
            if uri is None or None in row:
                columns = len(reader.fieldnames or [])
                yield reader.line_num, SourceError(f"not the {columns} columns of the header")
            else:
                yield reader.line_num, uri
    except csv.Error as error:
        yield reader.line_num, SourceError(f"not CSV: {error}")


def _json_entry(text: str) -> str | SourceError:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return SourceError(f"not JSON: {error}")
    uri = row.get("uri") if isinstance(row, dict) else row
    if not isinstance(uri, str):
        return SourceError("no text under 'uri'")
    return uri


def _uri(text: str, folder: str) -> str:
    if not text:
        raise SourceError("no URI")
    if len(text) > _MOST_CHARACTERS:
        raise SourceError(f"{len(text):,} characters, the limit is {_MOST_CHARACTERS:,}")
    if text.startswith("file:"):
        return file_uri(path_of(text))
    if text.startswith("s3:"):
        bucket, key = parse_s3_uri(text)
        if not key:
            raise SourceError(f"{text!r} names a bucket and no object in it")
        return s3_uri(bucket, key)
    if "://" in text:
        raise SourceError(f"{text!r} is neither a file nor in S3")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise SourceError(f"{text!r} is no file name: {error.reason}") from error
    if "\0" in text:
        raise SourceError(f"{text!r} holds a NUL")
    return file_uri(os.path.normpath(os.path.join(folder, text)))
