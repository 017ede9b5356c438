"""S3: that it can be reached, takes the credentials, and has the buckets that are named."""

from __future__ import annotations

import os
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

from tagmill.contract import ErrorCode
from tagmill.doctor.clocks import read_clock
from tagmill.doctor.findings import ASK_S, Look
from tagmill.errors import MissingError, TransientItemError
from tagmill.s3 import parse_s3_uri
from tagmill.s3.client import make_client
from tagmill.s3.failures import SECRET, errors, is_denied, translated
from tagmill.settings import Settings

WHAT = "S3"

MOST_APART_S = 900.0
"""Between the clocks of a request and of S3, before it refuses (RequestTimeTooSkewed)."""

_MOST_BUCKETS = 10

_NAMES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN")


def is_meant(settings: Settings) -> bool:
    """True where the settings, or boto3's own in the environment, name S3 at all."""
    named = settings.models_in_s3 or settings.buckets or settings.s3_anonymous
    return bool(named) or any(name.startswith(_NAMES) for name in os.environ)


def look_at_s3(settings: Settings, *, now: Callable[[], float]) -> Look:
    """Ask S3 for each bucket that is named, or only whether it is there where none is."""
    look = Look()
    buckets = list(settings.buckets)
    if settings.models_in_s3:
        buckets.insert(0, parse_s3_uri(settings.models_place)[0])
    buckets = list(dict.fromkeys(buckets))[:_MOST_BUCKETS]
    try:
        client = make_client(settings, timeout_s=ASK_S, attempts=1)
    except MissingError as error:
        say = look.ill if buckets else look.note
        say(WHAT, str(error), "pip install 'tagmill[s3]', and look at AWS_ENDPOINT_URL")
        return look
    endpoint = SECRET.sub("//", client.meta.endpoint_url)
    asked: list[str | None] = [*buckets] or [None]
    for bucket in asked:
        if not _asked(look, client, bucket, endpoint, now):
            break
    if look.is_well and buckets:
        look.well(WHAT, f"{endpoint} has {', '.join(buckets)}")
    client.close()
    return look


def _asked(
    look: Look, client: Any, bucket: str | None, endpoint: str, now: Callable[[], float]
) -> bool:
    """Ask for a bucket. False where asking for another one would end the same way."""

    def ask() -> float:
        try:
            answer = client.head_bucket(Bucket=bucket) if bucket else client.list_buckets()
        except errors(RecursionError) as error:
            failures.append(error)
            answer = getattr(error, "response", None) or {}
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        dates.append(headers.get("date", ""))
        return parsedate_to_datetime(dates[0]).timestamp() + 0.5 if dates[0] else now()

    failures: list[Exception] = []
    dates: list[str] = []
    clock = read_clock(
        ask,
        now,
        of="the clock of S3",
        spoils="S3 refuses requests once the two are 15 minutes apart",
        most_s=MOST_APART_S,
    )
    if dates[0]:
        look.clock = clock
    if not failures:
        if bucket is None:
            look.well(WHAT, f"{endpoint} answers")
        return True
    return _refused(look, failures[0], bucket, endpoint)


def _refused(look: Look, error: Exception, bucket: str | None, endpoint: str) -> bool:
    said = translated(error, doing="asking").message
    where = f"{endpoint} {bucket}" if bucket else endpoint
    if bucket is None:
        if is_denied(error):
            look.well(WHAT, f"{endpoint} answers")
        else:
            look.note(WHAT, f"{where}: {said}", _mend(error))
        return False
    if is_denied(error):
        look.note(
            WHAT,
            f"{where}: access denied: at least its objects must be allowed, and listing them",
            "allow s3:ListBucket and s3:GetObject, and for models and results s3:PutObject",
        )
        return True
    if translated(error).code is ErrorCode.NOT_FOUND:
        look.ill(WHAT, f"{where}: the bucket is not there", f"aws s3 mb s3://{bucket}")
        return True
    look.ill(WHAT, f"{where}: {said}", _mend(error))
    return False


def _mend(error: Exception) -> str:
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or TAGMILL_S3_ANONYMOUS=1"
    found = translated(error)
    if "RequestTimeTooSkewed" in str(error):
        return "set this machine's clock: timedatectl set-ntp true"
    if isinstance(found, TransientItemError) and kind != "ClientError":
        return "look at AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the network on the way"
    return "look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and their rights"
