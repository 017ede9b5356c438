"""Results as files: JSONL, CSV and Parquet carry the same names and one row per item.

A file appears under its name only once it is complete, in S3 too.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tagmill.contract import ErrorCode
from tagmill.errors import ItemError, MissingError, StoreFull, UsageError
from tagmill.s3 import S3, parse_s3_uri
from tagmill.store import Result

COLUMNS = (
    "job", "uri", "version", "status", "error", "message",
    "width", "height", "model", "labels", "labelled_at",
)  # fmt: skip
_GROUP_ROWS = 10_000
_NEEDS_PYARROW = "Parquet needs pyarrow: pip install 'tagmill[parquet]'"


def as_row(result: Result) -> dict[str, Any]:
    """One result under the names that every format carries."""
    when = datetime.fromtimestamp(result.labelled_at, UTC)
    return {
        "job": result.job,
        "uri": result.uri,
        "version": result.version,
        "status": str(result.status),
        "error": str(result.error) if result.error else None,
        "message": result.message,
        "width": result.width,
        "height": result.height,
        "model": result.model,
        "labels": [
            {"id": label.id, "name": label.name, "score": label.score} for label in result.labels
        ],
        "labelled_at": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def write_jsonl(results: Iterable[Result], output: IO[bytes]) -> None:
    """Write one JSON object per line."""
    for result in results:
        output.write(json.dumps(as_row(result), ensure_ascii=False).encode() + b"\n")


def write_csv(results: Iterable[Result], output: IO[bytes]) -> None:
    """Write CSV with a header; labels are JSON in their column."""
    text = io.TextIOWrapper(output, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for result in results:
        row = as_row(result)
        row["labels"] = json.dumps(row["labels"], ensure_ascii=False)
        writer.writerow(row)
    text.detach()


def write_parquet(results: Iterable[Result], output: IO[bytes]) -> None:
    """Write Parquet; labels are a list of structs, ``labelled_at`` is a UTC timestamp.

    Raises:
        MissingError: if pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingError(_NEEDS_PYARROW) from error
    label = pa.struct([("id", pa.string()), ("name", pa.string()), ("score", pa.float64())])
    types = {
        "width": pa.int32(),
        "height": pa.int32(),
        "labels": pa.list_(label),
        "labelled_at": pa.timestamp("ms", tz="UTC"),
    }
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    rows = iter(results)
    with parquet.ParquetWriter(output, schema, compression="zstd") as writer:
        while group := list(islice(rows, _GROUP_ROWS)):
            columns: list[dict[str, Any]] = []
            for result in group:
                when = datetime.fromtimestamp(round(result.labelled_at, 3), UTC)
                columns.append({**as_row(result), "labelled_at": when})
            writer.write_table(pa.Table.from_pylist(columns, schema))


WRITERS: dict[str, Callable[[Iterable[Result], IO[bytes]], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
}


def is_object(where: str) -> bool:
    """True where results go to S3."""
    return where.startswith("s3:")


def format_of(where: str) -> str:
    """The format that the suffix of a path or an S3 URI names.

    Raises:
        UsageError: if it names none.
    """
    kind = Path(where).suffix.lower().lstrip(".")
    if kind not in WRITERS:
        raise UsageError(f"{where}: results are written as .{', .'.join(WRITERS)}")
    return kind


def export(results: Iterable[Result], where: str, *, job: str, s3: S3) -> None:
    """Write the results of a job to a file or an object, in the format of its suffix.

    Args:
        results: to be written.
        where: a path, or the S3 URI of an object.
        job: whose results they are: an upload that failed says how to have them anyway.
        s3: where the object's bucket is.

    Raises:
        UsageError: if the suffix names no format, or the folder is not there.
        StoreFull: if there is no room left.
        MissingError: if the format's library is not installed, or the object cannot be written.
    """
    write = WRITERS[format_of(where)]
    if not is_object(where):
        with replacing(Path(where)) as output:
            write(results, output)
        return
    with tempfile.TemporaryFile(prefix="tagmill-") as file:
        try:
            write(results, file)
            file.seek(0)
        except OSError as error:
            raise StoreFull(
                f"{where} cannot be written: no temporary file in {tempfile.gettempdir()}: "
                f"{error.strerror}"
            ) from error
        try:
            s3.send(file, where)
        except ItemError as error:
            raise MissingError(
                f"{where} cannot be written: {error.message}; nothing is lost: "
                f"'tagmill results {job} --out FILE' writes the results again, to S3 or here"
            ) from error


class replacing:  # noqa: N801  # reads as the context manager that it is
    """Open a file to be written under another name and moved into place when all went well."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> IO[bytes]:
        try:
            handle, self._partial = tempfile.mkstemp(prefix=".tagmill-", dir=self._path.parent)
        except OSError as error:
            raise UsageError(f"{self._path} cannot be written: {error.strerror}") from error
        self._file = os.fdopen(handle, "wb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        try:
            self._file.close()
            if kind is None:
                os.chmod(self._partial, 0o666 & ~_umask())
                os.replace(self._partial, self._path)
        except OSError as failure:
            raise StoreFull(f"{self._path} cannot be written: {failure.strerror}") from failure
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self._partial)
        if isinstance(error, OSError):
            raise StoreFull(f"{self._path} cannot be written: {error.strerror}") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def check_writable(path: Path) -> None:
    """Raise before the work what writing would raise after it.

    Raises:
        UsageError: if a file of that name cannot be written.
    """
    try:
        if not path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent}")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is there and is no regular file")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise UsageError(f"{path}: no permission to write in {path.parent}")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def check_results_file(where: str, *, s3: S3) -> None:
    """Make sure that results can be written there, as far as that can be told before.

    Args:
        where: a path, or the S3 URI of an object.
        s3: where the object's bucket is.

    Raises:
        UsageError: if the suffix names no format, a file of that name cannot be written, or the
            bucket is not there or not allowed.
        MissingError: if the format's library is not installed, or S3 cannot be asked.
    """
    if format_of(where) == "parquet" and find_spec("pyarrow") is None:
        raise MissingError(_NEEDS_PYARROW)
    if not is_object(where):
        check_writable(Path(where))
        return
    try:
        s3.check_bucket(parse_s3_uri(where)[0])
    except ItemError as error:
        is_asked_wrongly = error.code in (ErrorCode.NOT_FOUND, ErrorCode.OUTSIDE_ROOTS)
        kind = UsageError if is_asked_wrongly else MissingError
        raise kind(f"{where} cannot be written: {error.message}") from error
