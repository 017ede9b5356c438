"""S3: URIs, listing, reading and writing, with boto3's errors made ours."""

from __future__ import annotations

from tagmill.s3.body import MOST_READ_S
from tagmill.s3.client import S3
from tagmill.s3.listing import ListedObject
from tagmill.s3.uri import parse_s3_uri, s3_uri, version_of

__all__ = ["MOST_READ_S", "S3", "ListedObject", "parse_s3_uri", "s3_uri", "version_of"]
