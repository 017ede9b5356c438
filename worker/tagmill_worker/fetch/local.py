"""Reading local files, under the roots that are allowed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

from tagmill.contract import ErrorCode, Item
from tagmill.errors import PermanentItemError, SourceError, TransientItemError
from tagmill.sources import path_of

_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_CODES = {
    errno.ENOENT: (ErrorCode.NOT_FOUND, "the file is not there (any more)"),
    errno.ENOTDIR: (ErrorCode.NOT_FOUND, "the file is not there: part of its path is no folder"),
    errno.ELOOP: (ErrorCode.NOT_FOUND, "the symbolic link leads in a circle, or was just put here"),
    errno.ENAMETOOLONG: (ErrorCode.NOT_FOUND, "the path is longer than the system allows"),
    errno.EACCES: (ErrorCode.FORBIDDEN, "no permission to read the file"),
    errno.EPERM: (ErrorCode.FORBIDDEN, "no permission to read the file"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """An item's bytes.

    Attributes:
        version: of what was read; differs from the item's where the file changed since listing.
    """

    data: bytes
    version: str


class LocalFetch:
    """Reads local files. A URI is untrusted: only what lies under the roots is opened.

    Args:
        roots: folders, symbolic links in them resolved once, here.
        max_bytes: of a file.
    """

    def __init__(self, roots: Sequence[Path], *, max_bytes: int) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._prefixes = tuple(root.rstrip("/") + "/" for root in self._roots)
        self._max_bytes = max_bytes

    def __call__(self, item: Item) -> Fetched:
        """Read one item.

        Raises:
            PermanentItemError: what is wrong with the file.
            TransientItemError: if reading failed in a way that may pass.
        """
        try:
            path = os.path.realpath(path_of(item.uri), strict=True)
            if not path.startswith(self._prefixes):
                roots = ", ".join(self._roots) or "none"
                raise PermanentItemError(
                    ErrorCode.OUTSIDE_ROOTS,
                    f"the file leads outside the allowed folders ({roots}): "
                    "allow another with --root or TAGMILL_ROOTS",
                )
            kind = os.lstat(path).st_mode
            if not stat.S_ISREG(kind):
                what = _KINDS.get(stat.S_IFMT(kind), "no regular file")
                raise PermanentItemError(ErrorCode.NOT_AN_IMAGE, f"{what}, not a file: not opened")
            return self._read(path)
        except SourceError as error:
            raise PermanentItemError(ErrorCode.NOT_FOUND, str(error)) from error
        except OSError as error:
            if error.errno in _CODES:
                code, sentence = _CODES[error.errno]
                if error.errno == errno.ENOENT and os.path.islink(path_of(item.uri)):
                    sentence = "the link leads to a file that is not there"
                raise PermanentItemError(code, sentence) from error
            raise TransientItemError(
                ErrorCode.UNAVAILABLE, f"reading failed: {error.strerror}"
            ) from error

    def _read(self, path: str) -> Fetched:
        descriptor = _opened(path, below=next(p for p in self._prefixes if path.startswith(p)))
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise PermanentItemError(ErrorCode.NOT_AN_IMAGE, "no longer a regular file")
            if found.st_size > self._max_bytes:
                raise PermanentItemError(
                    ErrorCode.TOO_LARGE,
                    f"{found.st_size:,} bytes, the limit is {self._max_bytes:,} "
                    "(TAGMILL_MAX_BYTES)",
                )
            data = b"".join(_parts(file, found.st_size))
        if len(data) < found.st_size:
            raise TransientItemError(
                ErrorCode.UNAVAILABLE,
                f"reading ended after {len(data):,} of {found.st_size:,} bytes",
            )
        return Fetched(data=data, version=f"{found.st_size}-{found.st_mtime_ns}")


def _opened(path: str, *, below: str) -> int:
    """Open a file by its resolved path, step by step from a root.

    No link that is put in the place of the file, or of a folder on the way, is followed any more,
    and a FIFO does not hold us up.

    Raises:
        OSError: as `os.open`; of a link in the way too.
    """
    *folders, name = path[len(below) :].split("/")
    at = os.open(below, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(name, _FILE, dir_fd=at)
    finally:
        os.close(at)


def _parts(file: RawIOBase, size: int) -> Iterator[bytes]:
    """Bytes of a file until its size is reached: one read may bring less than was asked for."""
    while size > 0:
        part = file.read(size)
        if not part:
            return
        size -= len(part)
        yield part
