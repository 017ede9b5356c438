"""Image files that somebody harmed: real photographs in every format, changed from a seed."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image

MOST_BYTES = 1 << 20
"""Of one file: repeating a part of it stops there."""

FORMATS: tuple[tuple[str, dict[str, object]], ...] = (
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("GIF", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("AVIF", {"speed": 10}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate", "tile": True}),
    ("TIFF", {"compression": "jpeg"}),
    ("JPEG2000", {}),
    ("PPM", {}),
)
_MODES = ("RGB", "RGB", "L", "P", "1", "RGBA", "CMYK", "I;16")
_SIDE = 160
_EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def hostile_image(photos: Sequence[Path], random: Random) -> bytes:
    """The bytes of a photograph, whole or in another format, harmed in one to four ways."""
    if random.random() < 0.3:
        data = random.choice(photos).read_bytes()
    else:
        data = _encoded(random.choice(photos[:20]), random.randrange(len(FORMATS)), random)
    for _ in range(random.randint(1, 4)):
        data = random.choice(_HARMS)(data, random)[:MOST_BYTES]
    if random.random() < 0.05:
        data = _spliced(data, _encoded(random.choice(photos[:20]), 2, random), random)
    return data


def _encoded(photo: Path, number: int, random: Random) -> bytes:
    return _file(photo, number, random.choice(_MODES))


@cache
def _file(photo: Path, number: int, mode: str) -> bytes:
    kind, options = FORMATS[number]
    with Image.open(photo) as image:
        small = image.convert("L" if mode == "I;16" else "RGB")
    small.thumbnail((_SIDE, _SIDE))
    if mode == "I;16":
        small = small.convert("I").point(lambda value: value * 257).convert("I;16")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    given = {key: value for key, value in options.items() if key != "tile"}
    if kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        given["exif"] = exif
    if options.get("tile"):
        given["tiffinfo"] = {322: 64, 323: 64}
        del given["exif"]
    for tried in (mode, "RGB"):  # not every format has every mode
        output = io.BytesIO()
        try:
            small.convert(tried).save(output, kind, **given)
        except (OSError, ValueError, KeyError):
            continue
        return output.getvalue()
    raise ValueError(f"{photo} cannot be written as {kind}")


def _flipped(data: bytes, random: Random) -> bytes:
    harmed = bytearray(data)
    for _ in range(random.choice((1, 1, 3, 20, 200))):
        if harmed:
            harmed[random.randrange(len(harmed))] ^= 1 << random.randrange(8)
    return bytes(harmed)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _spliced(data: bytes, other: bytes, random: Random) -> bytes:
    at, begin = random.randrange(len(data) + 1), random.randrange(len(other) + 1)
    return data[:at] + other[begin:]


def _without(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice((1, 2, 4, 100, 5000)) :]


def _inserted(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.choice((1, 2, 4, 100, 5000))) + data[at:]


def _repeated(data: bytes, random: Random) -> bytes:
    at = random.randrange(min(len(data), 600) + 1)
    part = data[at : at + random.choice((1, 2, 8, 40, 700))]
    times = random.choice((2, 30, 1000, MOST_BYTES // max(1, len(part))))
    return data[:at] + part * times + data[at:]


def _header_edited(data: bytes, random: Random) -> bytes:
    """A number near the beginning, where sizes and offsets stand, or near the end."""
    size, order = random.choice((1, 2, 2, 4, 4)), random.choice("<>")
    value = random.choice((*_EXTREMES, random.getrandbits(32))) & ((1 << 8 * size) - 1)
    number = struct.pack(order + {1: "B", 2: "H", 4: "I"}[size], value)
    at = random.randrange(min(len(data), random.choice((64, 700))) + 1)
    if random.random() < 0.2:
        at = max(0, len(data) - at)
    return data[:at] + number + data[at + size :]


def _parts_moved(data: bytes, random: Random) -> bytes:
    """Whole segments or chunks dropped, doubled, swapped; sums over changed chunks made right."""
    if data.startswith(b"\xff\xd8"):
        head, parts, rest = data[:2], *_jpeg_segments(data)
    elif data.startswith(b"\x89PNG"):
        head, parts, rest = data[:8], *_png_chunks(data)
    else:
        return _header_edited(data, random)
    if not parts:
        return data
    n = random.randrange(len(parts))
    what = random.randrange(4)
    if what == 0:
        del parts[n]
    elif what == 1:
        parts[n:n] = [parts[n]] * random.choice((1, 10, 3000))
    elif what == 2:
        random.shuffle(parts)
    elif head[0] == 0x89:
        parts[n] = _png_chunk(parts[n][4:8], _flipped(parts[n][8:-4], random))
    else:
        parts[n] = parts[n][:4] + _flipped(parts[n][4:], random)
    return head + b"".join(parts) + rest


def _jpeg_segments(data: bytes) -> tuple[list[bytes], bytes]:
    at, found = 2, []
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"", b"\xda"):
        size = 2 + int.from_bytes(data[at + 2 : at + 4])
        found.append(data[at : at + size])
        at += size
    return found, data[at:]


def _png_chunks(data: bytes) -> tuple[list[bytes], bytes]:
    at, found = 8, []
    while at + 12 <= len(data):
        size = 12 + int.from_bytes(data[at : at + 4])
        found.append(data[at : at + size])
        at += size
    return found, data[at:]


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _wild_exif(data: bytes, random: Random) -> bytes:
    """An EXIF of entries that point anywhere, before whatever there is."""
    count = random.choice((1, 3, 40, 5000))
    entries = b"".join(
        struct.pack(
            ">HHII", random.choice((0x0112, random.getrandbits(16))), random.randrange(15),
            random.choice((1, 2, 1000, *_EXTREMES)), random.choice((0, 8, *_EXTREMES)),
        )
        for _ in range(count)
    )  # fmt: skip
    exif = b"MM\0*\0\0\0\x08" + struct.pack(">H", count) + entries + b"\0\0\0\x08"
    if data.startswith(b"\xff\xd8"):
        body = (b"Exif\0\0" + exif)[:65_533]
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    if data.startswith(b"\x89PNG"):
        return data[:33] + _png_chunk(b"eXIf", exif) + data[33:]
    return exif + data if random.random() < 0.5 else data.replace(b"Exif\0\0", b"Exif\0\0" + exif)


_HARMS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flipped,
    _flipped,
    _cut,
    _without,
    _inserted,
    _repeated,
    _header_edited,
    _header_edited,
    _parts_moved,
    _parts_moved,
    _wild_exif,
)
