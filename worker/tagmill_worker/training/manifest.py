"""The labels of a manifest, beside the images that `ManifestSource` lists of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

from tagmill.errors import ItemError, SourceError
from tagmill.s3 import S3
from tagmill.settings import MIB
from tagmill.sources import Source, path_of, readable

MOST_MANIFEST_BYTES = 512 * MIB


def in_manifest(source: Source, s3: S3) -> Iterator[tuple[str, str, str]]:
    """Each image of a manifest as (URI, version, label).

    The manifest is read for its labels, for its images, and once more at the end: one that was
    rewritten meanwhile would give images the labels of others.

    Args:
        source: a `ManifestSource`.
        s3: where buckets are.

    Raises:
        SourceError: if it cannot be read, has no labels, or was changed while it was read.
    """
    data = _data(source.name, s3)
    before = hashlib.sha256(data).digest()
    labels = _labels(data, source.name)
    del data
    try:
        for (uri, version), label in zip(source.items(), labels, strict=True):
            yield uri, version, label
        is_same = hashlib.sha256(_data(source.name, s3)).digest() == before
    except (ValueError, csv.Error):  # one has more entries than the other, or is broken
        is_same = False
    if not is_same:
        raise SourceError(
            f"{readable(source.name)} was changed while it was read: "
            "begin again when it is complete"
        )


def _data(name: str, s3: S3) -> bytes:
    try:
        if name.startswith("s3:"):
            return s3.read(name, max_bytes=MOST_MANIFEST_BYTES)[0]
        path = Path(path_of(name))
        if path.stat().st_size > MOST_MANIFEST_BYTES:
            raise SourceError(
                f"{path} has {path.stat().st_size:,} bytes, "
                f"the limit of a manifest is {MOST_MANIFEST_BYTES:,}"
            )
        return path.read_bytes()
    except ItemError as error:
        raise SourceError(f"{readable(name)}: {error.message}") from error
    except OSError as error:
        raise SourceError(f"{readable(name)}: {error.strerror}") from error


def _labels(data: bytes, uri: str) -> Iterator[str]:
    """The label of each entry of a manifest, in the order in which `ManifestSource` lists them."""
    name = readable(uri)
    # As there: what is not UTF-8 travels as surrogates, and lines end as a file's do.
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape", newline="")
    if name.lower().endswith(".csv"):
        reader = csv.DictReader(lines, strict=True)
        if "label" not in (reader.fieldnames or []):
            raise SourceError(
                f"{name} has no column 'label' among {reader.fieldnames or 'none'!s:.200}"
            )
        for row in reader:
            yield row["label"] or ""
    elif name.lower().endswith(".jsonl"):
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _json_label(line, f"{name}, line {number}")
    else:
        raise SourceError(
            f"{name}: a manifest of a dataset has labels: a .csv with the columns 'uri' and "
            "'label', or a .jsonl with those keys"
        )


def _json_label(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: not JSON: {error}") from error
    label = row.get("label") if isinstance(row, dict) else None
    if not isinstance(label, str):
        raise SourceError(f"{where}: no text under 'label'")
    return label
