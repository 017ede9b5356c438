"""A folder of everything that people's folders hold and that is no plain photograph."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Every file's name → the error code that it must end with; "ok" for those to be labelled.
Expected = dict[str, str]


def picture(width: int = 300, height: int = 200, mode: str = "RGB") -> Image.Image:
    """A picture with structure, so that compression has something to work on."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x * 255 / max(1, width - 1)), (y * 255 / max(1, height - 1)), (x + y) % 256]
    rgb = np.stack(planes, axis=-1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    output = io.BytesIO()
    (image or picture()).save(output, "JPEG", **options)
    return output.getvalue()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, kind, **options)
    return output.getvalue()


def png_bomb(side: int = 65_000) -> bytes:
    """A PNG of few bytes that claims ``side`` × ``side`` pixels."""

    def part(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def damaged_png() -> bytes:
    """A PNG with one byte of its pixels changed."""
    data = bytearray(encoded(picture().rotate(7), "PNG"))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def odd_exif() -> dict[str, bytes]:
    """JPEGs on whose EXIF Pillow trips when it writes it anew, each in its own way."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0x9003: "2024:01:01 00:00:00"})
    sound = jpeg(exif=exif)
    begin = sound.index(b"Exif")
    found = {}
    for offset, value in ((17, 0), (17, 26), (17, 84), (19, 5), (63, 66), (79, 16), (137, 3)):
        data = bytearray(sound)
        data[begin + offset] = value
        found[f"odd-exif-{offset}-{value}.jpg"] = bytes(data)
    return found


def orientations() -> dict[str, bytes]:
    """The same picture under every EXIF orientation: 300 × 200 stored."""
    found = {}
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        found[f"exif-{value}.jpg"] = jpeg(exif=exif)
    return found


def _animated(kind: str) -> bytes:
    frames = [picture(), Image.new("RGB", (300, 200), "red"), Image.new("RGB", (300, 200), "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)


def files() -> dict[str, tuple[bytes, str]]:
    """Plain files by name: their bytes and the expected code."""
    sixteen_bit = Image.fromarray(
        (np.asarray(picture(mode="L"), dtype=np.uint16) * 257).astype(np.uint16)
    )
    alpha = picture(mode="RGBA")
    alpha.putalpha(picture(mode="L"))
    palette = picture().quantize(64)
    makers: dict[str, tuple[Callable[[], bytes], str]] = {
        "text.jpg": (lambda: b"this is no photograph\n" * 40, "not_an_image"),
        "empty.jpg": (lambda: b"", "not_an_image"),
        "zeros.jpg": (lambda: b"\0" * 5000, "not_an_image"),
        "cut.jpg": (lambda: jpeg()[:-2000], "corrupt"),
        "cut-early.jpg": (lambda: jpeg()[:30], "corrupt"),
        "cut.png": (lambda: encoded(picture(mode="RGBA").rotate(7), "PNG")[:2000], "corrupt"),
        "damaged.png": (damaged_png, "corrupt"),
        "bomb.png": (png_bomb, "too_large"),
        "photo.heic": (lambda: b"\0\0\0\x18ftypheic" + b"\0" * 500, "not_an_image"),
        "alpha.png": (lambda: encoded(alpha, "PNG"), "ok"),
        "gray-alpha.png": (lambda: encoded(alpha.convert("LA"), "PNG"), "ok"),
        "sixteen-bit.png": (lambda: encoded(sixteen_bit, "PNG"), "ok"),
        "palette.png": (lambda: encoded(palette, "PNG"), "ok"),
        "palette-transparent.png": (lambda: encoded(palette, "PNG", transparency=3), "ok"),
        "one-bit.png": (lambda: encoded(picture(mode="1"), "PNG"), "ok"),
        "gray.jpg": (lambda: jpeg(picture(mode="L")), "ok"),
        "cmyk.jpg": (lambda: jpeg(picture(mode="CMYK")), "ok"),
        "progressive.jpg": (lambda: jpeg(progressive=True), "ok"),
        "animated.gif": (lambda: _animated("GIF"), "ok"),
        "animated.webp": (lambda: _animated("WEBP"), "ok"),
        "float.tif": (lambda: encoded(picture(mode="L").convert("F"), "TIFF"), "ok"),
        "1x1.png": (lambda: encoded(picture(1, 1), "PNG"), "ok"),
        "1x10000.png": (lambda: encoded(picture(1, 10_000), "PNG"), "ok"),
        "10000x1.jpg": (lambda: jpeg(picture(10_000, 1)), "ok"),
        "with\nnewline.jpg": (jpeg, "ok"),
        "emoji-🦊.jpg": (jpeg, "ok"),
        "100%25 & #1?.jpg": (jpeg, "ok"),
        os.fsdecode(b"latin-\xe9\xff.jpg"): (jpeg, "ok"),
        "UPPER.JPG": (jpeg, "ok"),
        "wrong-suffix.png": (jpeg, "ok"),
        **{name: ((lambda data=data: data), "ok") for name, data in orientations().items()},
    }
    return {name: (make(), code) for name, (make, code) in makers.items()}


def fill(folder: Path, outside: Path) -> Expected:
    """Fill a folder with hostile entries; ``outside`` holds what links lead to.

    Returns:
        What each entry must end with, by the path below the folder.
    """
    expected: Expected = {}
    for name, (data, code) in files().items():
        (folder / name).write_bytes(data)
        expected[name] = code
    outside.mkdir(parents=True, exist_ok=True)
    (outside / "secret.jpg").write_bytes(jpeg())
    (folder / "inner").mkdir()
    (folder / "inner" / "deep.jpg").write_bytes(jpeg())
    expected["inner/deep.jpg"] = "ok"
    links = {
        "link-inside.jpg": ("inner/deep.jpg", "ok"),
        "link-outside.jpg": (outside / "secret.jpg", "outside_roots"),
        "link-loop.jpg": ("link-loop.jpg", "not_found"),
        "link-broken.jpg": ("nowhere.jpg", "not_found"),
        "link-proc.jpg": ("/proc/self/environ", "outside_roots"),
        "link-device.jpg": ("/dev/zero", "outside_roots"),
    }
    for name, (target, code) in links.items():
        (folder / name).symlink_to(target)
        expected[name] = code
    (folder / "inner" / "back").symlink_to(folder)  # a loop for whoever follows links to folders
    os.mkfifo(folder / "fifo.jpg")
    expected["fifo.jpg"] = "not_an_image"
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # a socket's address is short
        try:
            server.bind("socket.jpg")
        finally:
            os.chdir(here)
    expected["socket.jpg"] = "not_an_image"
    (folder / "folder.jpg").mkdir()
    (folder / "notes.txt").write_text("not listed: no image's suffix\n")
    return expected


class Live:
    """Makes a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self._mark,)
