from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image
from support import hostile

from tagmill.errors import PermanentItemError
from tagmill_worker.images import Geometry, decode

GEOMETRY = Geometry(size=224)
MAX_PIXELS = 10_000_000
FILES = hostile.files()


def small(data: bytes, geometry: Geometry = GEOMETRY) -> np.ndarray:
    return decode(data, geometry, max_pixels=MAX_PIXELS).pixels


@pytest.mark.parametrize("name", FILES, ids=lambda name: os.fsencode(name).decode(errors="replace"))
def test_every_kind_of_file_is_decoded_or_refused_with_its_code(name: str) -> None:
    data, expected = FILES[name]
    if expected == "ok":
        decoded = decode(data, GEOMETRY, max_pixels=MAX_PIXELS)
        assert decoded.pixels.shape == (224, 224, 3)
        assert decoded.pixels.dtype == np.uint8
        return
    with pytest.raises(PermanentItemError) as caught:
        decode(data, GEOMETRY, max_pixels=MAX_PIXELS)
    assert caught.value.code == expected
    assert len(caught.value.message) > 10


def test_every_exif_orientation_shows_the_same_upright_picture() -> None:
    marked = Image.new("RGB", (300, 200), "white")
    marked.paste("red", (100, 50, 150, 100))  # left of and above the centre
    marked.paste("blue", (150, 100, 200, 150))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = small(hostile.jpeg(marked, quality=95)).astype(int)
    for orientation, stored in back.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = hostile.jpeg(marked.transpose(stored), quality=95, exif=exif)
        decoded = decode(data, GEOMETRY, max_pixels=MAX_PIXELS)
        assert (decoded.width, decoded.height) == (300, 200), orientation
        assert np.abs(decoded.pixels - upright).mean() < 4, orientation


def test_transparent_pixels_show_white() -> None:
    image = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    assert small(hostile.encoded(image, "PNG")).min() == 255


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65_535, 256), (256, 1)).astype(np.uint16)
    pixels = small(hostile.encoded(Image.fromarray(ramp), "PNG"))
    assert 100 < pixels.mean() < 155


def test_dark_sixteen_bits_stay_dark_in_every_format() -> None:
    dark = np.tile(np.arange(200, dtype=np.uint16), (200, 1))
    pgm = b"P5 200 200 65535\n" + dark.astype(">u2").tobytes()
    for data in (pgm, hostile.encoded(Image.fromarray(dark), "PNG")):
        assert small(data).max() <= 1


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("lime", "red")]
    for kind in ("GIF", "WEBP"):
        data = hostile.encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert (small(data)[..., 1] > 200).all(), kind


def test_center_crop_leaves_the_sides_out_and_squash_keeps_them() -> None:
    image = Image.new("RGB", (600, 200), "white")
    image.paste("black", (0, 0, 150, 200))
    data = hostile.encoded(image, "PNG")
    assert small(data).min() == 255
    squashed = small(data, Geometry(size=224, name="squash"))
    assert squashed[:, :40].max() == 0


def test_draft_scaling_changes_little() -> None:
    """A large JPEG is decoded at a fraction of its size; the result must not show it."""
    large = hostile.picture(2400, 1600)
    drafted = small(hostile.jpeg(large, quality=95)).astype(int)
    whole = small(hostile.encoded(large, "PNG")).astype(int)
    assert np.abs(drafted - whole).mean() < 3


def test_the_pixel_limit_is_checked_before_the_memory_is_taken() -> None:
    with pytest.raises(PermanentItemError, match=r"65,000 × 65,000 pixels, the limit is") as caught:
        decode(hostile.png_bomb(), GEOMETRY, max_pixels=MAX_PIXELS)
    assert caught.value.code == "too_large"
