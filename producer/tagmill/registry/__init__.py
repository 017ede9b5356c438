"""The model registry: a folder or an S3 prefix, ``NAME/VERSION/`` with files and a card."""

from __future__ import annotations

from tagmill.contract import BUILT_IN, SMALL
from tagmill.errors import SourceError, UsageError
from tagmill.registry.bucket import BucketRegistry
from tagmill.registry.folder import Registry
from tagmill.registry.versions import (
    GEOMETRIES,
    Card,
    ModelVersion,
    parse_model,
    sha256,
)
from tagmill.s3 import S3, parse_s3_uri
from tagmill.settings import Settings

__all__ = [
    "BUILT_IN",
    "GEOMETRIES",
    "SMALL",
    "BucketRegistry",
    "Card",
    "ModelVersion",
    "Registry",
    "open_registry",
    "parse_model",
    "sha256",
]


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name; nothing is read of it yet.

    Raises:
        UsageError: if they name none.
    """
    if not settings.models_in_s3:
        if "://" in settings.models_place:
            raise UsageError(
                f"TAGMILL_MODELS: {settings.models_place:.200} is neither a folder nor "
                "s3://bucket/prefix"
            )
        return Registry(settings.models_dir)
    uri = settings.models_place
    try:
        bucket, _ = parse_s3_uri(uri)
    except SourceError as error:
        raise UsageError(f"TAGMILL_MODELS: {error}") from error
    # Whoever sets the registry allows its bucket, which items may not be read from for that.
    s3 = S3(settings.model_copy(update={"buckets": (bucket,)}))
    return BucketRegistry(uri, s3=s3, cache=settings.state_dir / "models-cache")
