"""Local paths as URIs and back, and the version of a local file."""

from __future__ import annotations

import os
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes, urlsplit

from tagmill.errors import SourceError

# What a folder is searched for: the suffixes of what a lane can decode, and of HEIC, which it
# cannot but whose owner wants to be told.
IMAGE_SUFFIXES = frozenset({
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "gif", "webp", "avif", "bmp", "dib",
    "tif", "tiff", "jp2", "j2k", "jpx", "ppm", "pgm", "pbm", "pnm", "heic", "heif",
})  # fmt: skip
_SAFE = b"/-._~!$&'()+,;=:@"


def quote(path: str) -> str:
    """Percent-encode the bytes of a path or of a part of one."""
    return quote_from_bytes(os.fsencode(path), _SAFE)


def file_uri(path: str) -> str:
    """The ``file://`` URI of an absolute path, whatever bytes its name has."""
    return f"file://{quote(path)}"


def path_of(uri: str) -> str:
    """The path that a ``file://`` URI names, undecodable bytes as surrogates.

    Raises:
        SourceError: if the URI is not one of a file on this machine.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise SourceError(f"{uri!r:.200} is no URI: {str(error)[:200]}") from error
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise SourceError(f"{uri!r:.200} names no file on this machine: write file:///path")
    rest = uri[len("file://") + len(parts.netloc) :] if uri.startswith("file://") else parts.path
    try:
        raw = unquote_to_bytes(os.fsencode(rest))
    except UnicodeEncodeError as error:
        raise SourceError(f"{uri!r:.200} is no URI: {error.reason}") from error
    if not raw.startswith(b"/") or b"\0" in raw:
        raise SourceError(f"{uri!r:.200} names no absolute path")
    return os.fsdecode(raw)


def readable(uri: str) -> str:
    """A URI as a person reads it: a path where it is a local file, in characters that print."""
    path = unquote(uri[len("file://") :], errors="replace") if uri.startswith("file://") else uri
    return printable(path)


def printable(text: str) -> str:
    """Text without what a terminal would obey: control characters are written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def file_version(path: str) -> str:
    """``size-mtime_ns`` of a file, links followed; empty where it cannot be told."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


def is_same_folder(path: str, other: str) -> bool:
    """True where both name one folder that is there, by whichever way."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def has_image_suffix(name: str) -> bool:
    """True where a file's name ends like an image's."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES
