"""A prefix of an S3 bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tagmill.errors import SourceError
from tagmill.s3 import S3, parse_s3_uri, s3_uri
from tagmill.sources.local import has_image_suffix
from tagmill.sources.position import Position


class BucketSource:
    """Every object with an image's suffix whose key begins with a prefix, by key.

    An object that is named whole is listed whatever its suffix. A page of the listing is held at
    a time.

    Args:
        uri: ``s3://bucket/prefix``.
        s3: where the bucket is.

    Raises:
        SourceError: if the URI names no bucket.
    """

    def __init__(self, uri: str, *, s3: S3) -> None:
        self._bucket, self._prefix = parse_s3_uri(uri)
        self._s3 = s3
        self.name = s3_uri(self._bucket, self._prefix)
        self.passed_over: Counter[str] = Counter()

    def items(self, after: Position | None = None) -> Iterator[tuple[str, str]]:
        """Yield ``(uri, version)``.

        Raises:
            SourceError: if the bucket cannot be listed, or ``after`` is no place in it.
        """
        self.passed_over.clear()
        last = self._key_of(after) if after is not None else ""
        for found in self._s3.objects(self._bucket, self._prefix, after=last):
            if found.key.endswith("/"):
                self.passed_over["folder marker"] += 1
            elif has_image_suffix(found.key) or found.key == self._prefix:
                yield s3_uri(self._bucket, found.key), found.version
            else:
                self.passed_over["no image suffix"] += 1

    def _key_of(self, position: Position) -> str:
        bucket, key = parse_s3_uri(position.uri)
        if bucket != self._bucket or not key.startswith(self._prefix):
            raise SourceError(f"{position.uri} is no place in {self.name}")
        return key
