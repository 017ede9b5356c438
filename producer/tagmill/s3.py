"""S3: URIs, listing and reading, with boto3's errors made ours.

An S3 URI is ``s3://bucket/key`` with the key as it is, as AWS' own tools write it: nothing in it is
percent-encoded. Credentials, region and endpoint come from boto3's own chain.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tagmill.contract import ErrorCode
from tagmill.errors import (
    ItemError,
    MissingError,
    PermanentItemError,
    SourceError,
    TransientItemError,
)
from tagmill.settings import Settings

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30
ATTEMPTS = 6
"""Of a request, by botocore's adaptive mode, which also slows down when it is throttled."""

POOL_CONNECTIONS = 32

MOST_READ_S = 120.0
"""For how long an object may take: a server that sends a byte now and then is no better than one
that sends none."""

_PIECE_BYTES = 1 << 18
_LONGEST_KEY = 1024  # bytes, as S3 has it
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SECRET = re.compile(r"//[^/@\s]*@")  # user and password in an endpoint's URL

_NOT_FOUND = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "404", "NotFound"})
_WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429})
_FORBIDDEN = frozenset({
    "403", "AccessDenied", "AllAccessDisabled", "AccountProblem", "ExpiredToken", "Forbidden",
    "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedObject:
    """One object of a listing; ``version`` is ``size-etag``."""

    key: str
    version: str


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
        raise SourceError(f"{uri!r} names no bucket: write s3://bucket/prefix")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise SourceError(f"{uri!r} is not UTF-8, which keys are") from error
    if "\0" in key or size > _LONGEST_KEY:
        raise SourceError(f"{uri[:200]!r} names no object: a key has 1,024 bytes at the most")
    return bucket, key


class S3:
    """S3 as the settings say. Nothing connects before the first use; any thread may use it.

    Args:
        settings: buckets that may be used, and the addressing of requests.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._made: Any = None  # boto3 ships no types

    def objects(self, bucket: str, prefix: str, *, after: str = "") -> Iterator[ListedObject]:
        """List the objects whose key begins with a prefix, in the order of their keys' bytes.

        Args:
            bucket: which.
            prefix: of the keys; empty for all.
            after: a key; only those behind it in the order are listed.

        Raises:
            SourceError: if the bucket is not there, not allowed, or cannot be listed.
        """
        uri = s3_uri(bucket, prefix)
        start = {"StartAfter": after} if after else {}
        try:
            self._check_bucket(bucket)
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix, **start, **self._payer()
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    version = version_of(found.get("Size", 0), found.get("ETag", ""))
                    yield ListedObject(key=found["Key"], version=version)
        except ItemError as error:
            raise SourceError(f"{uri}: {error.message}") from error
        except _errors(RecursionError) as error:
            raise SourceError(f"{uri}: {_translated(error).message}") from error

    def read(self, uri: str, *, max_bytes: int) -> tuple[bytes, str]:
        """Read an object.

        Returns:
            Its bytes and its version.

        Raises:
            PermanentItemError: what is wrong with the object.
            TransientItemError: if reading failed in a way that may pass.
        """
        try:
            bucket, key = parse_s3_uri(uri)
        except SourceError as error:
            raise PermanentItemError(ErrorCode.NOT_FOUND, str(error)) from error
        self._check_bucket(bucket)
        if self._settings.buckets and {".", ".."} & set(key.split("/")):
            # On the way a server may take such a key for a path to another bucket.
            raise PermanentItemError(
                ErrorCode.OUTSIDE_ROOTS, "a key with . or .. in it, while TAGMILL_BUCKETS is set"
            )
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key, **self._payer())
            # Not the body's own context: that is of the stream beneath, which checks no checksum.
            with contextlib.closing(answer["Body"]) as body:
                data = _read_body(body, answer.get("ContentLength"), max_bytes)
        except _errors(RecursionError) as error:
            if type(error).__name__ == "NoCredentialsError":
                self._forget_client()
            raise _translated(error) from error
        return data, version_of(len(data), answer.get("ETag", ""))

    def _forget_client(self) -> None:
        """A client keeps for ever that it found no credentials; the next one looks again."""
        with self._lock:
            self._made = None

    @property
    def _client(self) -> Any:
        with self._lock:  # making a client is not safe among threads, using it is
            if self._made is None:
                self._made = _make_client(self._settings)
            return self._made

    def _check_bucket(self, bucket: str) -> None:
        allowed = self._settings.buckets
        if allowed and bucket not in allowed:
            raise PermanentItemError(
                ErrorCode.OUTSIDE_ROOTS,
                f"bucket {bucket} is not among the allowed ones ({', '.join(allowed)}): "
                "allow it with TAGMILL_BUCKETS",
            )

    def _payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self._settings.s3_requester_pays else {}


def _read_body(body: Any, size: int | None, max_bytes: int) -> bytes:
    if size is not None and size > max_bytes:
        raise PermanentItemError(
            ErrorCode.TOO_LARGE, f"{size:,} bytes, the limit is {max_bytes:,} (TAGMILL_MAX_BYTES)"
        )
    began = time.monotonic()
    data = bytearray()
    while piece := body.read(_PIECE_BYTES):
        data += piece
        if len(data) > max_bytes:
            raise PermanentItemError(
                ErrorCode.TOO_LARGE, f"more than the limit of {max_bytes:,} bytes"
            )
        if time.monotonic() - began > MOST_READ_S:
            raise TransientItemError(
                ErrorCode.UNAVAILABLE, f"{len(data):,} bytes in {MOST_READ_S:.0f} s: given up"
            )
    if size is not None and len(data) < size:
        raise TransientItemError(
            ErrorCode.UNAVAILABLE, f"reading ended after {len(data):,} of {size:,} bytes"
        )
    return bytes(data)


def version_of(size: int, etag: str) -> str:
    """An object's version: ``size-etag``."""
    return f"{size}-{etag.strip(chr(34))}"


def _make_client(settings: Settings) -> Any:
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError as error:
        raise MissingError(f"S3 needs {error.name}: pip install 'tagmill[s3]'") from error
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        max_pool_connections=POOL_CONNECTIONS,
        s3={"addressing_style": "path" if settings.s3_path_style else "auto"},
        signature_version=UNSIGNED if settings.s3_anonymous else None,
        user_agent_extra="tagmill",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except _errors(ValueError) as error:  # ValueError: an endpoint that is no URL
        why = _SECRET.sub("//", str(error))
        raise MissingError(f"S3 cannot be used: {why} (AWS_ENDPOINT_URL, AWS_PROFILE)") from error


def _errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What boto3 raises, and more; nothing where it is not installed."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from urllib3.exceptions import HTTPError
    except ImportError:
        return ()
    return (BotoCoreError, ClientError, HTTPClientError, HTTPError, OSError, *more)


def _translated(error: Exception) -> ItemError:
    """What a failed request means for the item."""
    if isinstance(error, RecursionError):  # botocore follows redirects by asking again
        return PermanentItemError(
            ErrorCode.FORBIDDEN, "the endpoint only redirects: look at AWS_ENDPOINT_URL (https?)"
        )
    answer = getattr(error, "response", None) or {}
    said = answer.get("Error", {})
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, why = str(said.get("Code", "")), str(said.get("Message", "")) or str(error)
    why = _SECRET.sub("//", " ".join(why.split()))[:200]
    if status in _WORTH_ANOTHER_TRY or status >= 500 or "Throttl" in code or "Timeout" in code:
        return TransientItemError(ErrorCode.UNAVAILABLE, f"reading failed ({code}: {why})")
    if code in _NOT_FOUND:
        what = "the bucket is not there" if code == "NoSuchBucket" else "the object is not there"
        return PermanentItemError(ErrorCode.NOT_FOUND, f"{what} (any more)")
    if code == "InvalidObjectState":
        return PermanentItemError(
            ErrorCode.ARCHIVED, "the object is archived (Glacier): restore it first"
        )
    if code.startswith("KMS.") or (code in _FORBIDDEN and "kms" in why.lower()):
        return PermanentItemError(ErrorCode.FORBIDDEN, f"its KMS key refuses ({code}: {why})")
    if code in _FORBIDDEN:
        return PermanentItemError(ErrorCode.FORBIDDEN, f"access denied ({code}: {why})")
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError"):
        kind = TransientItemError if name == "NoCredentialsError" else PermanentItemError
        return kind(ErrorCode.FORBIDDEN, f"{why}: set AWS credentials, or TAGMILL_S3_ANONYMOUS=1")
    if name == "ParamValidationError":
        return PermanentItemError(ErrorCode.NOT_FOUND, f"such an object cannot be: {why}")
    if 300 <= status < 500 and code != "RequestTimeTooSkewed":
        return PermanentItemError(ErrorCode.FORBIDDEN, f"S3 refuses ({code}: {why})")
    return TransientItemError(
        ErrorCode.UNAVAILABLE, f"reading failed ({code or 'no answer'}: {why})"
    )
