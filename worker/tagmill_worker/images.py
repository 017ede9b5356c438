"""From the bytes of an image file to the pixels that a model takes.

Limits are checked on the header, before any pixel memory is taken. JPEGs are scaled down while
they are decoded, and the crop and the final resize are one pass over the pixels it needs.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from tagmill.contract import IMAGE_FORMATS, ErrorCode
from tagmill.errors import PermanentItemError
from tagmill_worker.metadata import excess

# Importing a plugin registers its format; a format that is asked for and not registered makes
# Pillow load all of its forty.
_PLUGINS = (
    JpegImagePlugin, PngImagePlugin, GifImagePlugin, WebPImagePlugin, AvifImagePlugin,
    BmpImagePlugin, TiffImagePlugin, Jpeg2KImagePlugin, PpmImagePlugin,
)  # fmt: skip
FORMATS = tuple(name for name in IMAGE_FORMATS if name in Image.OPEN)
"""Those of them that this build of Pillow has."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}

# Pillow only warns at its own limit; ours is checked on every header, see `decode`.
Image.MAX_IMAGE_PIXELS = None

# Of Pillow's filters the one by which the model sees best: as cheap as bilinear, and sharper.
# `python -m bench accuracy` compares them.
FILTER = Image.Resampling.HAMMING

# EXIF orientation → the transpositions that make the image upright (Exif 2.32, tag 0x0112).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
_WHITE = (255, 255, 255, 255)

# What Pillow's decoders raise on bytes that they cannot make sense of.
_BROKEN = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError,
    AssertionError, AttributeError, RuntimeError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """How an image of any size becomes a model's input.

    Attributes:
        size: height and width of the input in pixels.
        name: ``center_crop`` (the short side to ``size × resize_ratio``, then the centre) or
            ``squash`` (both sides to ``size``, whatever the aspect).
        resize_ratio: for ``center_crop``.
    """

    size: int
    name: str = "center_crop"
    resize_ratio: float = 256 / 224


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """An image as a model takes it.

    Attributes:
        pixels: uint8 ``(size, size, 3)``, RGB; read-only.
        width: of the upright original, in pixels.
        height: as ``width``.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int


def decode(data: bytes, geometry: Geometry, *, max_pixels: int) -> Decoded:
    """Decode an image file: upright, RGB, first frame, transparency over white.

    Args:
        data: the file's bytes.
        geometry: what the model version asks for.
        max_pixels: width × height at the most.

    Raises:
        PermanentItemError: ``not_an_image``, ``corrupt`` or ``too_large``.
    """
    if not data:
        raise PermanentItemError(ErrorCode.NOT_AN_IMAGE, "the file is empty")
    if too_much := excess(data):
        raise PermanentItemError(ErrorCode.CORRUPT, f"the {_kind(data)} has {too_much}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except _BROKEN as error:
            raise _not_opened(data, error) from error
        except MemoryError as error:
            raise PermanentItemError(
                ErrorCode.TOO_LARGE, f"its {len(data):,} bytes take more memory than there is"
            ) from error
        with image:
            width, height = image.size
            wide, high = max(image.size, _tile(image), key=math.prod)
            if wide * high > max_pixels:
                raise PermanentItemError(
                    ErrorCode.TOO_LARGE,
                    f"{wide:,} × {high:,} pixels, the limit is {max_pixels:,} in all "
                    "(TAGMILL_MAX_PIXELS)",
                )
            try:
                pixels = _fit(image, geometry)
            except MemoryError as error:
                raise PermanentItemError(
                    ErrorCode.TOO_LARGE,
                    f"{width:,} × {height:,} pixels take more memory than there is",
                ) from error
            except _BROKEN as error:
                raise PermanentItemError(
                    ErrorCode.CORRUPT, _why_corrupt(image.format, data, error)
                ) from error
            try:  # after the pixels: of some formats Pillow loads them to find the metadata
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            except (*_BROKEN, MemoryError):
                orientation = 1  # broken metadata around sound pixels
    if orientation in _UPRIGHT:
        # The crop is centred, so that turning the small result is turning the large original.
        pixels = pixels.transpose(_UPRIGHT[orientation])
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Decoded(pixels=np.asarray(pixels), width=width, height=height)


def _tile(image: Any) -> tuple[int, int]:
    """The sides of a TIFF's tiles, which are decoded whole, however small the image is."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(TiffImagePlugin.TILEWIDTH), tags.get(TiffImagePlugin.TILELENGTH)
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    return 0, 0


def _fit(image: Any, geometry: Geometry) -> Any:
    """Bring an opened image to the model's input size, as an RGB image."""
    width, height = image.size
    if geometry.name == "center_crop":
        short = round(geometry.size * geometry.resize_ratio)
        scale = short / min(width, height)
        image.draft(None, (round(width * scale), round(height * scale)))
    else:
        image.draft(None, (geometry.size, geometry.size))
    image.load()
    width, height = image.size  # draft mode may have scaled it
    box = (0.0, 0.0, float(width), float(height))
    if geometry.name == "center_crop":
        side = min(width, height) / geometry.resize_ratio
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    # Of sixteen bits a sample Pillow's own conversion would clip where it should scale.
    is_sixteen_bit = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
    mode = _mode_to_resize(image)
    if image.mode != mode:
        image = image.convert(mode)
    small = image.resize((geometry.size, geometry.size), FILTER, box=box)
    return _as_rgb(small, is_sixteen_bit=is_sixteen_bit)


def _mode_to_resize(image: Any) -> str:
    """A mode that can be resized and loses nothing of what the image shows."""
    if image.mode.startswith("I;16"):
        return "I"
    if image.mode in ("I", "F"):
        return str(image.mode)
    transparent = ("RGBA", "LA", "PA", "La", "RGBa")
    return "RGBA" if image.mode in transparent or "transparency" in image.info else "RGB"


def _as_rgb(image: Any, *, is_sixteen_bit: bool) -> Any:
    """Turn a small image of mode RGB, RGBA, I or F into RGB, transparency laid over white."""
    if image.mode == "RGBA":
        return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
    if image.mode in ("I", "F"):
        samples = np.asarray(image, dtype=np.float64)
        plain = (samples / 256).astype(np.uint8) if is_sixteen_bit else _stretched(samples)
        return Image.fromarray(plain).convert("RGB")
    return image


def _stretched(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Samples of unknown range as uint8: kept where they fit, else stretched over 0 to 255."""
    samples = np.nan_to_num(samples)
    low, high = float(samples.min()), float(samples.max())
    if low < 0 or high > 255 or 0 < high <= 1:
        samples = (samples - low) * (255 / (high - low)) if high > low else np.zeros_like(samples)
    return samples.astype(np.uint8)


def _not_opened(data: bytes, error: BaseException) -> PermanentItemError:
    """What to say of bytes that no format's header was found in."""
    if kind := _kind(data):
        sentence = f"the {kind} has no readable header in its {len(data):,} bytes"
        if not isinstance(error, UnidentifiedImageError):
            sentence = _why_corrupt(kind, data, error)
        return PermanentItemError(ErrorCode.CORRUPT, sentence)
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"heim", b"heis"):
        sentence = "HEIC images are not read: convert them to JPEG first"
    elif not data.strip(b"\0"):
        sentence = f"{len(data):,} bytes, all of them zero"
    else:
        sentence = f"{len(data):,} bytes in no format that is read; they begin {str(data[:8])[1:]}"
    return PermanentItemError(ErrorCode.NOT_AN_IMAGE, sentence)


def _kind(data: bytes) -> str:
    """The format that a file's first bytes tell of; empty where they tell of none."""
    return next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), "")


def _why_corrupt(kind: str | None, data: bytes, error: BaseException) -> str:
    reason = " ".join(str(error).split())
    if "truncated" in reason or isinstance(error, EOFError):
        return f"the {kind} ends early, after {len(data):,} bytes"
    return f"the {kind} cannot be decoded: {reason or type(error).__name__}"[:300]
