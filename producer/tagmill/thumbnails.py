"""Small pictures for reports, made once and kept."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path

from PIL import Image, ImageOps

from tagmill.errors import SourceError
from tagmill.sources import path_of

SIDE = 176
"""Pixels of a thumbnail's sides: sharp at half that size on dense screens."""

_QUALITY = 70


class Thumbnails:
    """Square thumbnails of local images, cached in a folder by URI and version.

    Args:
        folder: need not exist.
        max_pixels: width × height of an original at the most.
    """

    def __init__(self, folder: Path, *, max_pixels: int) -> None:
        self._folder = folder
        self._max_pixels = max_pixels

    def get(self, uri: str, version: str) -> bytes | None:
        """The thumbnail of an image as JPEG, ``None`` where it cannot be made (any more)."""
        name = hashlib.blake2b(f"{uri} {version}".encode(), digest_size=16).hexdigest()
        cached = self._folder / name[:2] / f"{name}.jpg"
        try:
            return cached.read_bytes()
        except OSError:
            pass
        made = self._make(uri)
        if made is not None:
            cached.parent.mkdir(parents=True, exist_ok=True)
            partial = cached.with_suffix(f".{os.getpid()}")
            partial.write_bytes(made)
            partial.replace(cached)
        return made

    def _make(self, uri: str) -> bytes | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(path_of(uri)) as image:
                    if image.width * image.height > self._max_pixels:
                        return None
                    # JPEG only decodes as much as the thumbnail needs.
                    image.draft("RGB", (SIDE, SIDE))
                    upright = ImageOps.exif_transpose(image)
                    if upright.mode != "RGB":
                        upright = upright.convert("RGBA")
                    square = ImageOps.fit(upright, (SIDE, SIDE), Image.Resampling.BILINEAR)
                    flat = Image.new("RGB", square.size, "white")
                    flat.paste(square, mask=square if square.mode == "RGBA" else None)
            except (OSError, SyntaxError, ValueError, EOFError, SourceError, MemoryError):
                return None
        output = io.BytesIO()
        flat.save(output, "JPEG", quality=_QUALITY, optimize=True)
        return output.getvalue()
