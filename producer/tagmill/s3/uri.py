"""S3 URIs and versions.

An S3 URI is ``s3://bucket/key`` with the key as it is, as AWS' own tools write it: nothing in it is
percent-encoded.
"""

from __future__ import annotations

import re

from tagmill.errors import SourceError

_LONGEST_KEY = 1024  # bytes, as S3 has it
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def s3_uri(bucket: str, key: str) -> str:
    """The URI of an object."""
    return f"s3://{bucket}/{key}"


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Split a URI into bucket and key or prefix.

    Raises:
        SourceError: if it is none.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not _BUCKET.fullmatch(bucket):
        raise SourceError(f"{uri!r:.200} names no bucket: write s3://bucket/prefix")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise SourceError(f"{uri!r:.200} is not UTF-8, which keys are") from error
    if "\0" in key or size > _LONGEST_KEY:
        raise SourceError(f"{uri!r:.200} names no object: a key has 1,024 bytes at the most")
    return bucket, key


def version_of(size: int, etag: str) -> str:
    """An object's version: ``size-etag``."""
    return f"{size}-{etag.strip(chr(34))}"
