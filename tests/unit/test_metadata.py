"""Files whose metadata would cost more than their pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image
from support import hostile

from tagmill.errors import PermanentItemError
from tagmill_worker.images import Geometry, decode
from tagmill_worker.metadata import MOST_SMALL_PARTS, MOST_STRAY_BYTES, excess

MANY = MOST_SMALL_PARTS + 1
PALETTE_ENDS = 13 + 3 * 16


def jpeg_with(segments: bytes) -> bytes:
    sound = hostile.jpeg()
    return sound[:2] + segments + sound[2:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(chunks: bytes) -> bytes:
    sound = hostile.encoded(hostile.picture(), "PNG")
    return sound[:33] + chunks + sound[33:]


def gif_with(blocks: bytes) -> bytes:
    sound = hostile.encoded(hostile.picture().quantize(16), "GIF")
    assert sound[PALETTE_ENDS] in b",!"
    return sound[:PALETTE_ENDS] + blocks + sound[PALETTE_ENDS:]


def progressive_with(scans: int) -> bytes:
    sound = hostile.jpeg(hostile.picture(mode="L"), progressive=True)
    last = sound[sound.rfind(b"\xff\xda") : -2]
    return sound[:-2] + last * (scans - sound.count(b"\xff\xda")) + sound[-2:]


def exif_segment(size: int) -> bytes:
    return b"\xff\xe1" + struct.pack(">H", size + 8) + b"Exif\0\0" + b"a" * size


def tiff_of_one_tile(side: int) -> bytes:
    """A TIFF of 100 × 100 pixels, cut out of a tile of ``side`` × ``side``."""
    pixels = zlib.compress(b"\0" * side * side)
    entries = [
        (256, 4, 100), (257, 4, 100), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
        (322, 4, side), (323, 4, side), (324, 4, 8), (325, 4, len(pixels)),
    ]  # fmt: skip
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(pixels))
        + pixels
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
        + b"\0" * 4
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: jpeg_with(b"\xff\xe5\0\2" * MANY), "segments before its pixels"),
        (lambda: jpeg_with(b"\xff\xfe\0\3a" * MANY), "segments before its pixels"),
        (lambda: jpeg_with(b"\xff\x01" * MANY), "segments before its pixels"),
        (lambda: jpeg_with(exif_segment(1) * 1000), "EXIF in more than 64 segments"),
        (lambda: jpeg_with(exif_segment(60_000) * 65), "EXIF in more than 64 segments"),
        (lambda: jpeg_with(b"\xff" * (MOST_STRAY_BYTES + 9)), "bytes between its segments"),
        (lambda: progressive_with(101), "more than 100 scans"),
        (lambda: png_with(chunk(b"abCd", b"x") * MANY), "chunks of fewer than 256 bytes"),
        (lambda: png_with(chunk(b"IDAT", b"") * MANY), "chunks of fewer than 256 bytes"),
        (lambda: gif_with(b"!\xfe" + b"\2ab" * MANY + b"\0"), "blocks before its first frame"),
        (lambda: gif_with(b"!\xfe\2ab\0" * MANY), "blocks before its first frame"),
        (lambda: gif_with(b"x" * (MOST_STRAY_BYTES + 1)), "bytes between its blocks"),
    ],
)
def test_too_many_parts_are_refused_unread(make: Callable[[], bytes], said: str) -> None:
    with pytest.raises(PermanentItemError, match=said) as caught:
        decode(make(), Geometry(size=224), max_pixels=1 << 24)
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize(
    "make",
    [
        lambda: jpeg_with(b"\xff\xe2\xff\xff" + b"x" * 65_533),
        lambda: jpeg_with((b"\xff\xe2\xff\xff" + b"x" * 65_533) * 300),  # extended XMP of 20 MB
        lambda: jpeg_with(b"\xff\xfe\0\3a" * 500),
        lambda: jpeg_with(exif_segment(60_000) * 2),
        lambda: jpeg_with(b"\xff" * 5_000),
        lambda: hostile.jpeg() + b"\xff\xda\0\x08" * 5_000,  # a film behind the photograph
        lambda: hostile.jpeg(progressive=True) + b"\xff\xda\0\x08" * 5_000,
        lambda: progressive_with(60),
        lambda: png_with(chunk(b"tEXt", b"a\0b") * 1_000),
        lambda: gif_with(b"!\xfe" + (b"\xff" + b"a" * 255) * 20_000 + b"\0"),
        lambda: tiff_of_one_tile(128),
    ],
)
def test_what_cameras_and_editors_write_is_decoded(make: Callable[[], bytes]) -> None:
    decode(make(), Geometry(size=224), max_pixels=1 << 24)


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"GIF8"])
def test_files_that_end_anywhere_have_no_excess(start: bytes) -> None:
    sound = {
        b"\xff\xd8\xff": hostile.jpeg(progressive=True),
        b"\x89PNG\r\n\x1a\n": hostile.encoded(hostile.picture(20, 20), "PNG"),
    }.get(start, hostile.encoded(hostile.picture(20, 20), "GIF"))
    assert not any(excess(sound[:end]) for end in range(len(start), len(sound)))
    assert excess(start + b"\xff" * 50) == ""


def test_a_tile_of_a_tiff_is_held_to_the_limit_of_pixels_too() -> None:
    with pytest.raises(PermanentItemError, match="5,000 × 5,000 pixels, the limit is") as caught:
        decode(tiff_of_one_tile(5_000), Geometry(size=224), max_pixels=1 << 24)
    assert caught.value.code == "too_large"


def test_memory_that_runs_out_while_the_header_is_read_is_the_items_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(PermanentItemError, match="more memory than there is") as caught:
        decode(hostile.jpeg(), Geometry(size=224), max_pixels=1 << 24)
    assert caught.value.code == "too_large"
