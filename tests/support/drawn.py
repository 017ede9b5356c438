"""Small pictures whose class can be seen: one shape for each, in any colour and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("disc", "square", "stripes")


def draw(shape: str, number: int, size: int = 48) -> Image.Image:
    """One picture of a class; another number gives another one."""
    drawn = np.random.default_rng([SHAPES.index(shape), number])
    colours = [tuple(int(c) for c in drawn.integers(*span, 3)) for span in ((0, 100), (150, 256))]
    image = Image.new("RGB", (size, size), colours[0])
    pen = ImageDraw.Draw(image)
    left, top = (int(n) for n in drawn.integers(2, size // 3, 2))
    box = (left, top, left + size // 2, top + size // 2)
    if shape == "disc":
        pen.ellipse(box, fill=colours[1])
    elif shape == "square":
        pen.rectangle(box, fill=colours[1])
    else:
        for x in range(left, size, 6):
            pen.line((x, 0, x, size), fill=colours[1], width=3)
    return image


def draw_dataset(folder: Path, count: int, shapes: tuple[str, ...] = SHAPES) -> Path:
    """A folder per class with so many pictures in each."""
    for shape in shapes:
        (folder / shape).mkdir(parents=True)
        for number in range(count):
            draw(shape, number).save(folder / shape / f"{number:03}.png")
    return folder
