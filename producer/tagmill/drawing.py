"""Small pictures whose class can be seen: one shape for each, in any colour, size and place."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from tagmill.errors import StoreFull

SHAPES = ("disc", "square", "stripes")

SIDE = 96
"""Pixels of a picture's sides."""


def draw(shape: str, number: int) -> Image.Image:
    """One picture of a class; another number gives another one."""
    drawn = random.Random(f"{shape} {number}")  # noqa: S311  # no secret
    dark, light = (tuple(drawn.choices(range(*span), k=3)) for span in ((0, 100), (150, 256)))
    back, front = (dark, light) if drawn.random() < 0.5 else (light, dark)
    image = Image.new("RGB", (SIDE, SIDE), back)
    pen = ImageDraw.Draw(image)
    side = drawn.randrange(SIDE // 3, SIDE * 2 // 3)
    left, top = drawn.choices(range(SIDE - side), k=2)
    if shape == "disc":
        pen.ellipse((left, top, left + side, top + side), fill=front)
    elif shape == "square":
        pen.rectangle((left, top, left + side, top + side), fill=front)
    else:
        for x in range(left, left + side, side // 4):
            pen.rectangle((x, top, x + side // 8, top + side), fill=front)
    return image


def draw_dataset(folder: Path, numbers: Iterable[int], shapes: Sequence[str] = SHAPES) -> Path:
    """A folder per class with a picture for each number; those that are there stay.

    Raises:
        StoreFull: if they cannot be written.
    """
    wanted = tuple(numbers)
    try:
        for shape in shapes:
            (folder / shape).mkdir(parents=True, exist_ok=True)
            for number in wanted:
                path = folder / shape / f"{number:03}.png"
                if not path.exists():
                    partial = path.with_suffix(".new")
                    draw(shape, number).save(partial, "PNG")
                    os.replace(partial, path)
    except OSError as error:
        raise StoreFull(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder


def is_right(path: str, said: str) -> bool:
    """True where a picture was called by the class that its folder has."""
    return os.path.basename(os.path.dirname(path)) == said
