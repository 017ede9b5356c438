"""One client for all that tagmill asks of S3, with boto3's errors made ours.

Credentials, region and endpoint come from boto3's own chain.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import IO, Any

from tagmill.contract import ErrorCode
from tagmill.errors import (
    ItemError,
    MissingError,
    PermanentItemError,
    SourceError,
)
from tagmill.s3.body import read_body
from tagmill.s3.failures import SECRET, errors, is_denied, is_lost_race, translated
from tagmill.s3.listing import ListedObject, listed, plainly
from tagmill.s3.uri import parse_s3_uri, s3_uri, version_of
from tagmill.settings import Settings

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 5, 15
ATTEMPTS = 4
"""Of a request, by botocore's adaptive mode, which also slows down when it is throttled."""

POOL_CONNECTIONS = 32


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
        last = after
        try:
            self._check_bucket(bucket)
            ask = partial(self._client.list_objects_v2, Bucket=bucket, **self._payer())
            try:
                for found in listed(ask, prefix, after=after):
                    last = found.key
                    yield found
            except errors() as error:
                if not is_denied(error):
                    raise
                # A policy may allow to list this very prefix and none below it.
                yield from plainly(ask, prefix, after=last)
        except ItemError as error:
            raise SourceError(f"{uri}: {error.message}") from error
        except errors(RecursionError) as error:
            raise SourceError(f"{uri}: {translated(error).message}") from error

    def read(self, uri: str, *, max_bytes: int) -> tuple[bytes, str]:
        """Read an object.

        Returns:
            Its bytes and its version.

        Raises:
            PermanentItemError: what is wrong with the object.
            TransientItemError: if reading failed in a way that may pass.
        """
        bucket, key = self._parsed(uri)
        try:
            answer = self._client.get_object(Bucket=bucket, Key=key, **self._payer())
            # Not the body's own context: that is of the stream beneath, which checks no checksum.
            with contextlib.closing(answer["Body"]) as body:
                data = read_body(body, answer.get("ContentLength"), max_bytes)
        except errors(RecursionError) as error:
            if type(error).__name__ == "NoCredentialsError":
                self._forget_client()
            raise translated(error) from error
        return data, version_of(len(data), answer.get("ETag", ""))

    def version(self, uri: str) -> str:
        """An object's version, as reading it would give it.

        Raises:
            PermanentItemError: what is wrong with the object.
            TransientItemError: if asking failed in a way that may pass.
        """
        bucket, key = self._parsed(uri)
        try:
            answer = self._client.head_object(Bucket=bucket, Key=key, **self._payer())
        except errors(RecursionError) as error:
            raise translated(error) from error
        return version_of(answer["ContentLength"], answer.get("ETag", ""))

    def fetch(self, uri: str, output: IO[bytes]) -> None:
        """Write an object's bytes to a file, in parts where it is large.

        Raises:
            PermanentItemError: what is wrong with the object.
            TransientItemError: if reading failed in a way that may pass.
        """
        bucket, key = self._parsed(uri)
        try:
            self._client.download_fileobj(bucket, key, output, ExtraArgs=self._payer())
        except errors(RecursionError) as error:
            raise translated(error) from error

    def send(self, data: IO[bytes], uri: str) -> None:
        """Write an object, in parts where it is large; it is there only once it is whole.

        Args:
            data: from where it is to its end; it may be closed afterwards.
            uri: which object; one that is there is replaced.

        Raises:
            PermanentItemError: what is wrong with the object or the bucket.
            TransientItemError: if writing failed in a way that may pass.
        """
        bucket, key = self._parsed(uri)
        try:
            self._client.upload_fileobj(data, bucket, key, ExtraArgs=self._payer())
        except errors(RecursionError) as error:
            raise translated(error, doing="writing") from error

    def create(self, uri: str) -> bool:
        """Create an empty object, which of several askers only one can.

        Returns:
            False where the object is there.

        Raises:
            PermanentItemError: what is wrong with the object or the bucket.
            TransientItemError: if writing failed in a way that may pass.
        """
        bucket, key = self._parsed(uri)
        try:
            self._client.put_object(Bucket=bucket, Key=key, IfNoneMatch="*", **self._payer())
        except errors(RecursionError) as error:
            if is_lost_race(error):
                return False
            raise translated(error, doing="writing") from error
        return True

    def remove(self, uri: str) -> None:
        """Remove an object, there or not.

        Raises:
            PermanentItemError: what is wrong with the object or the bucket.
            TransientItemError: if removing failed in a way that may pass.
        """
        bucket, key = self._parsed(uri)
        try:
            self._client.delete_object(Bucket=bucket, Key=key, **self._payer())
        except errors(RecursionError) as error:
            raise translated(error, doing="removing") from error

    def check_bucket(self, bucket: str) -> None:
        """Look whether a bucket is there, as far as that may be asked.

        Raises:
            PermanentItemError: if it is not there or not allowed.
            TransientItemError: if asking failed in a way that may pass.
        """
        self._check_bucket(bucket)
        try:
            self._client.head_bucket(Bucket=bucket)
        except errors(RecursionError) as error:
            if is_denied(error):  # who may write objects need not be allowed this question
                return
            found = translated(error, doing="asking for the bucket")
            if found.code is ErrorCode.NOT_FOUND:
                raise PermanentItemError(found.code, "the bucket is not there") from error
            raise found from error

    def _parsed(self, uri: str) -> tuple[str, str]:
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
        return bucket, key

    def _forget_client(self) -> None:
        """A client keeps for ever that it found no credentials; the next one looks again."""
        with self._lock:
            self._made = None

    @property
    def _client(self) -> Any:
        with self._lock:  # making a client is not safe among threads, using it is
            if self._made is None:
                self._made = make_client(self._settings)
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


def _parse_timestamp(value: object) -> object:
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)  # type: ignore[arg-type]  # else the TypeError below
    except (TypeError, ValueError):
        return parse_timestamp(value)


def make_client(
    settings: Settings, *, timeout_s: float | None = None, attempts: int = ATTEMPTS
) -> Any:
    """A boto3 client of S3.

    Args:
        settings: how to address and sign requests.
        timeout_s: for connecting and for reading, where it is not as for work.
        attempts: of a request.

    Raises:
        MissingError: if boto3 is not installed, or cannot make a client of what is set.
    """
    try:
        import boto3
        import botocore.session
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError as error:
        raise MissingError(f"S3 needs {error.name}: pip install 'tagmill[s3]'") from error
    config = Config(
        connect_timeout=timeout_s or CONNECT_TIMEOUT_S,
        read_timeout=timeout_s or READ_TIMEOUT_S,
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        max_pool_connections=POOL_CONNECTIONS,
        s3={"addressing_style": "path" if settings.s3_path_style else "auto"},
        signature_version=UNSIGNED if settings.s3_anonymous else None,
        user_agent_extra="tagmill",
    )
    try:
        session = botocore.session.get_session()
        # A listing has a time per key, which nobody reads, and botocore takes two thirds of the
        # listing's time to parse them.
        parsers = session.get_component("response_parser_factory")
        parsers.set_parser_defaults(timestamp_parser=_parse_timestamp)
        return boto3.session.Session(botocore_session=session).client("s3", config=config)
    except errors(ValueError) as error:  # ValueError: an endpoint that is no URL
        why = SECRET.sub("", str(error))
        raise MissingError(f"S3 cannot be used: {why} (AWS_ENDPOINT_URL, AWS_PROFILE)") from error
