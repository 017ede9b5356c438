"""A prefix of an S3 bucket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tagmill.errors import SourceError
from tagmill.s3 import S3, parse_s3_uri, s3_uri
from tagmill.sources.local import has_image_suffix
from tagmill.sources.position import Position
from tagmill.sources.selection import Selection


class BucketSource:
    """The wanted objects whose key begins with a prefix, by key.

    Where no pattern includes any, those with an image's suffix are wanted, and an object that is
    named whole. A few pages of the listing are held at a time.

    Args:
        uri: ``s3://bucket/prefix``.
        s3: where the bucket is.
        selection: of keys below the prefix.

    Raises:
        SourceError: if the URI names no bucket.
    """

    def __init__(self, uri: str, *, s3: S3, selection: Selection) -> None:
        self._bucket, self._prefix = parse_s3_uri(uri)
        self._s3 = s3
        self._selection = selection
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
            why = self._refusal(found.key)
            if why:
                self.passed_over[why] += 1
            else:
                yield s3_uri(self._bucket, found.key), found.version

    def _refusal(self, key: str) -> str:
        if key.endswith("/"):
            return "folder marker"
        is_image = has_image_suffix(key) or key == self._prefix
        return self._selection.refusal(key[self._named_from(key) :], is_image=is_image)

    def _named_from(self, key: str) -> int:
        """Where the name begins in a key: never within the name of a folder or an object."""
        if key.startswith(f"{self._prefix}/"):
            return len(self._prefix) + 1
        return self._prefix.rfind("/") + 1

    def _key_of(self, position: Position) -> str:
        bucket, key = parse_s3_uri(position.uri)
        if bucket != self._bucket or not key.startswith(self._prefix):
            raise SourceError(f"{position.uri} is no place in {self.name}")
        return key
