"""What a file's metadata may cost: counted before a decoder reads it part by part.

Decoders keep every segment, chunk or comment of a file before its pixels, some in time that grows
with the square of their number. A file of many tiny ones within the limit of bytes would hold its
lane for an hour, or take gigabytes. Whatever else is wrong is left for the decoder to say.
"""

from __future__ import annotations

import re

MOST_SMALL_PARTS = 50_000
"""Segments, chunks or blocks of fewer than 256 bytes: those of cameras and editors are dozens."""

MOST_STRAY_BYTES = 1 << 20
"""Bytes between the parts of a file, which decoders skip one by one."""

MOST_EXIF_SEGMENTS = 64
"""Segments that a JPEG's EXIF may be spread over; the standard has one."""

MOST_SCANS = 100
"""Of a progressive JPEG: encoders write about ten, and each goes over the whole picture again."""

_SMALL = 256
_SOI, _SOS, _EOI, _APP1 = 0xD8, 0xDA, 0xD9, 0xE1
_ALONE = frozenset({0x01, *range(0xD0, _EOI + 1)})  # markers that no length follows
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_AFTER_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)


def excess(data: bytes) -> str:
    """What a file has too much of, for a person; empty where it has not.

    Args:
        data: the file's bytes, of whatever format.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _excess_of_jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _excess_of_png(data)
    if data.startswith(b"GIF8"):
        return _excess_of_gif(data)
    return ""


def _excess_of_jpeg(data: bytes) -> str:
    at, small, exif, stray = 2, 0, 0, 0
    is_progressive, components = False, 0
    while (found := data.find(b"\xff", at)) >= 0:
        stray += found - at
        at = found + 1
        while data[at : at + 1] == b"\xff":
            at, stray = at + 1, stray + 1
            if stray > MOST_STRAY_BYTES:
                break
        if stray > MOST_STRAY_BYTES:
            return f"more than {MOST_STRAY_BYTES:,} bytes between its segments"
        marker = data[at] if at < len(data) else _EOI
        at += 1
        if marker == 0 or marker in _ALONE:
            small += 1
        else:
            size = int.from_bytes(data[at : at + 2])
            small += size < _SMALL
            exif += marker == _APP1 and data[at + 2 : at + 8] == b"Exif\0\0"
            if marker in _FRAMES:
                is_progressive = marker & 3 == 2
                components = data[at + 7] if at + 7 < len(data) else 0
            if marker == _SOS:
                has_more = is_progressive or data[at + 2 : at + 3] != bytes([components])
                return _excess_of_scans(data, at) if has_more else ""
            at += size
        if small > MOST_SMALL_PARTS:
            return f"more than {MOST_SMALL_PARTS:,} segments before its pixels"
        if exif > MOST_EXIF_SEGMENTS:
            return f"EXIF in more than {MOST_EXIF_SEGMENTS} segments"
    return ""


def _excess_of_scans(data: bytes, at: int) -> str:
    scans = parts = 1
    while match := _AFTER_SCAN.search(data, at):
        at, marker = match.end(), match[1][0]
        parts += 1
        if marker == _EOI:
            break
        scans += marker == _SOS
        if scans > MOST_SCANS:
            return f"more than {MOST_SCANS} scans"
        if parts > MOST_SMALL_PARTS:
            return f"more than {MOST_SMALL_PARTS:,} segments among its scans"
        if marker not in _ALONE:
            at += int.from_bytes(data[at : at + 2])
    return ""


def _excess_of_png(data: bytes) -> str:
    at, small = 8, 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        small += size < _SMALL
        if small > MOST_SMALL_PARTS:
            return f"more than {MOST_SMALL_PARTS:,} chunks of fewer than {_SMALL} bytes"
        at += 12 + size
    return ""


def _excess_of_gif(data: bytes) -> str:
    has_palette = len(data) > 10 and data[10] & 0x80
    at, blocks, stray = 13 + (3 << ((data[10] & 7) + 1) if has_palette else 0), 0, 0
    while at < len(data) and data[at] not in b",;":
        if data[at] != ord("!"):
            at, stray = at + 1, stray + 1
        else:
            at += 2
            while at < len(data) and data[at]:
                at, blocks = at + 1 + data[at], blocks + 1
                if blocks > MOST_SMALL_PARTS:
                    break
            at, blocks = at + 1, blocks + 1
        if blocks > MOST_SMALL_PARTS:
            return f"more than {MOST_SMALL_PARTS:,} blocks before its first frame"
        if stray > MOST_STRAY_BYTES:
            return f"more than {MOST_STRAY_BYTES:,} bytes between its blocks"
    return ""
