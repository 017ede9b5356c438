"""A manifest: a file, or an object in S3, that lists URIs or paths.

One a line (``.txt``), in a column ``uri`` (``.csv``), or under a key ``uri`` (``.jsonl``).
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from tagmill.errors import ItemError, SourceError
from tagmill.s3 import S3, parse_s3_uri, s3_uri
from tagmill.sources.local import file_uri, file_version, path_of
from tagmill.sources.position import Position
from tagmill.sources.selection import Selection

SUFFIXES = (".txt", ".csv", ".jsonl")
_MOST_CHARACTERS = 16_384
_SHOWN = 5


class ManifestSource:
    """What a manifest lists, in its order. Relative paths start at its folder.

    Those in a manifest in S3 are keys of its bucket. It is fetched once for each listing, into a
    temporary file that goes with the listing.

    Args:
        where: an absolute path or an S3 URI; its suffix says the format.
        s3: where the bucket is.
        selection: of paths and of the URIs of objects.
    """

    def __init__(self, where: str, *, s3: S3, selection: Selection) -> None:
        self._is_object = where.startswith("s3:")
        self.name = where if self._is_object else file_uri(where)
        self.passed_over: Counter[str] = Counter()
        self._where = where
        self._s3 = s3
        self._selection = selection

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """Yield ``(uri, version)``; the version is empty for a file that is not there.

        The whole manifest is checked first, so that a broken line stops it before any work.
        A manifest may have grown since an earlier listing; up to ``after`` it must be the same.

        Raises:
            SourceError: naming the broken lines, or the entry that is another than it was; or if
                the manifest cannot be read.
        """
        self.passed_over.clear()
        with self._local_file() as path:
            for uri in self._uris(path, after):
                yield uri, file_version(path_of(uri)) if uri.startswith("file:") else ""

    @contextmanager
    def _local_file(self) -> Iterator[str]:
        if not self._is_object:
            yield self._where
            return
        with tempfile.NamedTemporaryFile(prefix="tagmill-") as file:
            try:
                self._s3.fetch(self._where, file)
            except ItemError as error:
                raise SourceError(f"{self._where}: {error.message}") from error
            file.flush()
            yield file.name

    def _uris(self, path: str, after: Position | None) -> Iterator[str]:
        broken = [(number, fault) for number, _, fault in self._rows(path) if fault]
        if broken:
            lines = "; ".join(f"line {number}: {fault}" for number, fault in broken[:_SHOWN])
            more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
            raise SourceError(f"{self._where}: {lines}{more}")
        uris = self._wanted(uri for _, uri, _ in self._rows(path))
        if after is not None and after.n:
            last = next(islice(uris, after.n - 1, None), None)
            if last != after.uri:
                raise SourceError(
                    f"{self._where} was changed: its entry {after.n:,} was {after.uri}, "
                    f"now it is {last or 'missing'}; list it from its beginning"
                )
        yield from uris

    def _wanted(self, uris: Iterable[str]) -> Iterator[str]:
        for uri in uris:
            why = self._selection.refusal(path_of(uri) if uri.startswith("file:") else uri)
            if why:
                self.passed_over[why] += 1
            else:
                yield uri

    def _rows(self, path: str) -> Iterator[tuple[int, str, str]]:
        """Each entry as (line number, URI, what is wrong with it or nothing)."""
        try:
            for number, text in self._entries(path):
                if isinstance(text, SourceError):
                    yield number, "", str(text)
                    continue
                try:
                    yield number, _uri(text, self._where), ""
                except SourceError as error:
                    yield number, "", str(error)
        except OSError as error:
            raise SourceError(f"{self._where}: {error.strerror}") from error

    def _entries(self, path: str) -> Iterator[tuple[int, str | SourceError]]:
        # Names of files are bytes: what is not UTF-8 travels as surrogates.
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if self._where.lower().endswith(".csv"):
                yield from _csv_entries(file)
                return
            is_jsonl = self._where.lower().endswith(".jsonl")
            for number, line in enumerate(file, 1):
                text = line.rstrip("\r\n")
                if not text.strip() or (text.startswith("#") and not is_jsonl):
                    continue
                yield number, _json_entry(text) if is_jsonl else text


def _csv_entries(file: Iterator[str]) -> Iterator[tuple[int, str | SourceError]]:
    reader = csv.DictReader(file, strict=True)
    try:
        if "uri" not in (reader.fieldnames or []):
            yield 1, SourceError(f"no column 'uri' among {reader.fieldnames or 'none'!s:.200}")
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


def _uri(text: str, manifest: str) -> str:
    if not text:
        raise SourceError("no URI")
    if len(text) > _MOST_CHARACTERS:
        raise SourceError(f"{len(text):,} characters, the limit is {_MOST_CHARACTERS:,}")
    if text.startswith("file:"):
        return file_uri(path_of(text))
    if text.startswith("s3:"):
        bucket, key = parse_s3_uri(text)
        if not key:
            raise SourceError(f"{text!r:.200} names a bucket and no object in it")
        return s3_uri(bucket, key)
    if "://" in text:
        raise SourceError(f"{text!r:.200} is neither a file nor in S3")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise SourceError(f"{text!r:.200} is no file name: {error.reason}") from error
    if "\0" in text:
        raise SourceError(f"{text!r:.200} holds a NUL")
    if manifest.startswith("s3:") and not text.startswith("/"):
        return _beside(text, manifest)
    return file_uri(os.path.normpath(os.path.join(os.path.dirname(manifest), text)))


def _beside(text: str, manifest: str) -> str:
    """The object that a manifest in S3 names by a key relative to its own folder."""
    bucket, key = parse_s3_uri(manifest)
    folder, rest = key.rpartition("/")[0], text
    while rest.startswith(("./", "../")):
        step, _, rest = rest.partition("/")
        if step == "..":
            if not folder:
                raise SourceError(f"{text!r:.200} leads out of the bucket {bucket}")
            folder = folder.rpartition("/")[0]
    uri = s3_uri(bucket, f"{folder}/{rest}" if folder else rest)
    parse_s3_uri(uri)
    return uri
