"""Pictures that are drawn: the same ones wherever and whenever, and none of them twice."""

from __future__ import annotations

from pathlib import Path

from tagmill.drawing import SHAPES, draw, draw_dataset, is_right


def test_a_number_is_one_picture_and_another_number_another_one() -> None:
    drawn = {draw(shape, number).tobytes() for shape in SHAPES for number in range(50)}
    assert len(drawn) == 50 * len(SHAPES)
    assert draw("disc", 7).tobytes() in drawn


def test_pictures_that_are_there_stay_and_others_are_added(tmp_path: Path) -> None:
    draw_dataset(tmp_path, range(2))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    draw_dataset(tmp_path, range(3))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert before.items() <= after.items()
    assert len(after) == 3 * len(SHAPES)


def test_right_is_what_the_folder_is_called() -> None:
    assert is_right("/drawn/disc/001.png", "disc")
    assert not is_right("/drawn/disc/001.png", "square")
