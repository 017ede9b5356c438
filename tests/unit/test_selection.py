"""Patterns that say which items of a source are wanted."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.s3 import S3
from tagmill.settings import load_settings
from tagmill.sources import Position, Selection, open_source, path_of

NO_S3 = S3(load_settings())
FILES = ["a.jpg", "notes.txt", "raw/b.dat", "raw/c.jpg", "raw/thumbs/d.jpg", "thumbs/e.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def listed(
    text: object, below: Path, *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, int]]:
    source = open_source(
        str(text),
        leave_out=Path("/nowhere"),
        s3=NO_S3,
        selection=Selection(include=include, exclude=exclude),
    )
    names = [path_of(uri).removeprefix(f"{below}/") for uri, _ in source.items()]
    return names, dict(source.passed_over)


def test_exclude_leaves_out_and_the_suffix_still_counts(folder: Path) -> None:
    assert listed(folder, folder, exclude=("*thumbs/*",)) == (
        ["a.jpg", "raw/c.jpg"],
        {"excluded": 2, "no image suffix": 2},
    )
    assert listed(folder, folder, exclude=("thumbs/*", "?.jpg"))[0] == [
        "raw/c.jpg", "raw/thumbs/d.jpg",
    ]  # fmt: skip


def test_include_takes_the_place_of_the_suffix_and_exclude_wins(folder: Path) -> None:
    assert listed(folder, folder, include=("*.dat", "a*"), exclude=("*.jpg",)) == (
        ["raw/b.dat"],
        {"excluded": 4, "not included": 1},
    )
    assert listed(folder, folder, include=("*",))[0] == FILES


def test_links_to_folders_are_never_included(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    names, passed_over = listed(folder, folder, include=("*",))
    assert names == FILES
    assert passed_over == {"link to a folder": 1}


def test_of_patterns_and_manifests_the_whole_path_or_uri_is_the_name(folder: Path) -> None:
    assert listed(f"{folder}/**/*.jpg", folder, exclude=("*/thumbs/*",))[0] == [
        "a.jpg", "raw/c.jpg",
    ]  # fmt: skip
    assert listed(f"{folder}/**/*.jpg", folder, include=("raw/*",))[0] == []
    (folder / "list.txt").write_text("x.jpg\ns3://bucket/y.jpg\n")
    source = open_source(
        str(folder / "list.txt"),
        leave_out=Path("/nowhere"),
        s3=NO_S3,
        selection=Selection(include=("s3://bucket/*",)),
    )
    assert list(source.items()) == [("s3://bucket/y.jpg", "")]
    assert source.passed_over == {"not included": 1}
    assert not list(source.items(after=Position(n=1, uri="s3://bucket/y.jpg")))


def test_a_single_file_goes_by_its_name(folder: Path) -> None:
    assert listed(folder / "notes.txt", folder)[0] == []  # a manifest, and an empty one
    assert listed(folder / "raw/b.dat", folder, include=("b.*",))[0] == ["raw/b.dat"]
    assert listed(folder / "raw/b.dat", folder, exclude=("*",)) == ([], {"excluded": 1})


@given(
    st.lists(st.text("ab/*?[]!-.", max_size=8), max_size=3).map(tuple),
    st.lists(st.text("ab/*?[]!-.", max_size=8), max_size=3).map(tuple),
    st.text("ab/*[.-\udcff\n", max_size=8),
)
def test_patterns_match_as_fnmatch_has_it(
    include: tuple[str, ...], exclude: tuple[str, ...], name: str
) -> None:
    refusal = Selection(include=include, exclude=exclude).refusal(name, is_image=False)
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude):
        assert refusal == "excluded"
    elif include:
        is_in = any(fnmatch.fnmatchcase(name, pattern) for pattern in include)
        assert refusal == ("" if is_in else "not included")
    else:
        assert refusal == "no image suffix"
