"""What boto3 raises, and what it means for the item that was asked for."""

from __future__ import annotations

import re

from tagmill.contract import ErrorCode
from tagmill.errors import ItemError, PermanentItemError, TransientItemError

SECRET = re.compile(
    r"""(?<=//)[^/\s]*@|(?<![^\s/`'"])[^\s/:@`'"]*:(?!//)[^\s`'"]*@""",
)
"""User and password in an endpoint's URL, sound or not, which no message may show."""

_NOT_FOUND = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchVersion", "404", "NotFound"})
_WORTH_ANOTHER_TRY = frozenset({408, 409, 425, 429})
_FORBIDDEN = frozenset({
    "403", "AccessDenied", "AllAccessDisabled", "AccountProblem", "ExpiredToken", "Forbidden",
    "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
})  # fmt: skip


def errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What boto3 raises, and more; nothing where it is not installed."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from s3transfer.exceptions import RetriesExceededError
        from urllib3.exceptions import HTTPError
    except ImportError:
        return ()
    ours = (BotoCoreError, ClientError, HTTPClientError, HTTPError, RetriesExceededError)
    return (*ours, OSError, *more)


def translated(error: Exception, *, doing: str = "reading") -> ItemError:
    """What a failed request means for the item that was being read, or whatever else was done."""
    if isinstance(error, RecursionError):  # botocore follows redirects by asking again
        return PermanentItemError(
            ErrorCode.FORBIDDEN, "the endpoint only redirects: look at AWS_ENDPOINT_URL (https?)"
        )
    answer = getattr(error, "response", None) or {}
    said = answer.get("Error", {})
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, why = str(said.get("Code", "")), str(said.get("Message", "")) or str(error)
    why = SECRET.sub("", " ".join(why.split()))[:200]
    if status in _WORTH_ANOTHER_TRY or status >= 500 or "Throttl" in code or "Timeout" in code:
        return TransientItemError(ErrorCode.UNAVAILABLE, f"{doing} failed ({code}: {why})")
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
        ErrorCode.UNAVAILABLE, f"{doing} failed ({code or 'no answer'}: {why})"
    )


def is_denied(error: Exception) -> bool:
    """True where S3 said that this request is not permitted, though another might be."""
    return _code(error) in ("AccessDenied", "403", "Forbidden")


def is_lost_race(error: Exception) -> bool:
    """True where an object was to be created that somebody else has created, or is creating."""
    return _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict")


def _code(error: Exception) -> str:
    answer = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))
