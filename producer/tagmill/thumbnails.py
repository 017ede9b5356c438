"""Small pictures for reports, made once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from tagmill.contract import IMAGE_FORMATS
from tagmill.errors import SourceError, TransientItemError
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import path_of

SIDE = 176
"""Pixels of a thumbnail's sides: sharp at half that size on dense screens."""

_QUALITY = 70
_MOST_AWAY = 3


class Thumbnails:
    """Square thumbnails of images, cached in a folder by URI and version.

    Args:
        folder: need not exist.
        settings: limits of an original.
        s3: where objects are.
    """

    def __init__(self, folder: Path, *, settings: Settings, s3: S3) -> None:
        self._folder = folder
        self._settings = settings
        self._s3 = s3
        self._away = 0

    def get(self, uri: str, version: str) -> bytes | None:
        """The thumbnail of an image as JPEG, ``None`` where it cannot be made (any more)."""
        name = hashlib.blake2b(f"{uri} {version}".encode(), digest_size=16).hexdigest()
        # No image's suffix: a folder that is labelled may hold this cache.
        cached = self._folder / name[:2] / f"{name}.thumbnail"
        with contextlib.suppress(OSError):
            return cached.read_bytes()
        made = self._make(uri)
        if made is not None:
            with contextlib.suppress(OSError):  # a cache: the next report makes it again
                cached.parent.mkdir(parents=True, exist_ok=True)
                partial = cached.with_suffix(f".{os.getpid()}")
                partial.write_bytes(made)
                partial.replace(cached)
        return made

    def _make(self, uri: str) -> bytes | None:
        output = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._draw(uri).save(output, "JPEG", quality=_QUALITY)
            except TransientItemError:
                self._away += 1  # a server that is away is not waited for, picture by picture
                return None
            except Exception:  # noqa: BLE001  # an ornament: no file may cost the report
                return None
        return output.getvalue()

    def _original(self, uri: str) -> str | io.BytesIO:
        if not uri.startswith("s3:"):
            return path_of(uri)
        if self._away >= _MOST_AWAY:
            raise SourceError(f"{uri}: S3 did not answer {self._away} times")
        data, _ = self._s3.read(uri, max_bytes=self._settings.max_bytes)
        return io.BytesIO(data)

    def _draw(self, uri: str) -> Image.Image:
        with Image.open(self._original(uri), formats=IMAGE_FORMATS) as image:
            if image.width * image.height > self._settings.max_pixels:
                raise SourceError(f"{uri} has {image.width:,} × {image.height:,} pixels")
            # JPEG only decodes as much as the thumbnail needs.
            image.draft("RGB", (SIDE, SIDE))
            image.load()
            upright: Image.Image = image
            with contextlib.suppress(Exception):  # broken metadata around sound pixels
                upright = ImageOps.exif_transpose(image)
            if upright.mode != "RGB":
                upright = upright.convert("RGBA")
            square = ImageOps.fit(upright, (SIDE, SIDE), Image.Resampling.BILINEAR)
            flat = Image.new("RGB", square.size, "white")
            flat.paste(square, mask=square if square.mode == "RGBA" else None)
            return flat
