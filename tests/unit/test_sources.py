from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import hostile

from tagmill.errors import SourceError
from tagmill.s3 import S3
from tagmill.settings import load_settings
from tagmill.sources import (
    default_roots,
    file_uri,
    open_source,
    path_of,
    printable,
    readable,
    source_name,
)

NOWHERE = Path("/nowhere")
NO_S3 = S3(load_settings())


def names(source: object, below: Path) -> list[str]:
    return [
        path_of(uri).removeprefix(f"{below}/")
        for uri, _ in source.items()  # type: ignore[attr-defined]
    ]


def fill(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")


@pytest.mark.parametrize(
    "text", ["/a\ud800.jpg", "s3://bucket/\ud800", "/a\0.jpg", "a*\0", "file:///\ud800"]
)
def test_what_no_file_can_be_named_is_no_source(text: str) -> None:
    for meant in (
        lambda: open_source(text, leave_out=NOWHERE, s3=NO_S3),
        lambda: source_name(text),
    ):
        with pytest.raises(SourceError):
            meant()


@pytest.mark.parametrize(
    "start", ["file:", "file://host/", "file://[", "s3:", "s3:///", "http://", "/", "s3://bucket/"]
)
def test_a_name_of_any_length_makes_a_short_error(start: str, tmp_path: Path) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text(start + "x" * 16_000 + "\n")
    listed = open_source(str(manifest), leave_out=NOWHERE, s3=NO_S3)
    for meant in (
        lambda: open_source(start + "x" * 100_000, leave_out=NOWHERE, s3=NO_S3),
        lambda: list(listed.items()),
    ):
        assert len(error_of(meant)) < 500


def error_of(act: Callable[[], object]) -> str:
    try:
        act()
    except SourceError as error:
        return str(error)
    return ""


@given(st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name))
def test_any_name_survives_its_uri(name: bytes) -> None:
    path = os.fsdecode(b"/" + name)
    uri = file_uri(path)
    assert uri.isascii()
    assert path_of(uri) == path


def test_folder_is_walked_by_name_and_depth_first(tmp_path: Path) -> None:
    fill(tmp_path, "b/2.jpg", "b/1.png", "a.jpg", "c.webp", "b/z/9.gif", ".hidden/0.jpg")
    source = open_source(str(tmp_path), leave_out=NOWHERE, s3=NO_S3)
    assert names(source, tmp_path) == [
        ".hidden/0.jpg", "a.jpg", "b/1.png", "b/2.jpg", "b/z/9.gif", "c.webp",
    ]  # fmt: skip
    assert names(source, tmp_path) == names(source, tmp_path)


def test_folder_lists_images_only_and_counts_the_rest(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "notes.txt", "b.xmp")
    (tmp_path / "loop").symlink_to(tmp_path)
    source = open_source(str(tmp_path), leave_out=NOWHERE, s3=NO_S3)
    assert names(source, tmp_path) == ["a.jpg"]
    assert source.passed_over == {"no image suffix": 2, "link to a folder": 1}


def test_state_folder_inside_the_source_is_not_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", ".tagmill/thumbnails/b.jpg")
    assert names(
        open_source(str(tmp_path), leave_out=tmp_path / ".tagmill", s3=NO_S3), tmp_path
    ) == ["a.jpg"]


def test_state_folder_is_not_listed_by_whichever_way_one_gets_there(tmp_path: Path) -> None:
    fill(tmp_path, "real/a.jpg", "real/state/b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    state = tmp_path / "real" / "state"
    for text in ("link", "real"):
        source = open_source(str(tmp_path / text), leave_out=state, s3=NO_S3)
        assert names(source, tmp_path / text) == ["a.jpg"]
    source = open_source(f"{tmp_path}/link/**/*.jpg", leave_out=state, s3=NO_S3)
    assert names(source, tmp_path / "link") == ["a.jpg"]


def test_what_a_terminal_would_obey_is_written_as_an_escape() -> None:
    uri = file_uri("/a/\x1b[31mred\x07\n\udcff é🦊")
    assert readable(uri) == "/a/\\x1b[31mred\\x07\\n\ufffd é🦊"
    assert printable("\udcff") == "\\udcff"


def test_hostile_folder_is_listed_whole(tmp_path: Path) -> None:
    expected = hostile.fill(tmp_path, tmp_path.parent / f"{tmp_path.name}-outside")
    assert set(names(open_source(str(tmp_path), leave_out=NOWHERE, s3=NO_S3), tmp_path)) == set(
        expected
    )


def test_unreadable_folder_below_is_counted_and_the_rest_goes_on(
    tmp_path: Path, as_nobody: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    fill(tmp_path, "shut/a.jpg", "z.jpg")
    (tmp_path / "shut").chmod(0)
    source = open_source(str(tmp_path), leave_out=NOWHERE, s3=NO_S3)
    with as_nobody():
        found = names(source, tmp_path)
        with pytest.raises(SourceError, match="Permission denied"):
            names(open_source(str(tmp_path / "shut"), leave_out=NOWHERE, s3=NO_S3), tmp_path)
    (tmp_path / "shut").chmod(0o755)
    assert found == ["z.jpg"]
    assert source.passed_over == {"folder not readable (Permission denied)": 1}


def test_glob_matches_across_folders(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "a/b/2.jpg", "a/b/3.txt")
    source = open_source(f"{tmp_path}/**/*.jpg", leave_out=NOWHERE, s3=NO_S3)
    assert names(source, tmp_path) == ["a/1.jpg", "a/b/2.jpg"]
    assert default_roots(source.name) == (tmp_path,)


def test_single_file_is_a_source_and_its_folder_the_root(tmp_path: Path) -> None:
    fill(tmp_path, "one")
    source = open_source(str(tmp_path / "one"), leave_out=NOWHERE, s3=NO_S3)
    assert names(source, tmp_path) == ["one"]
    assert default_roots(source.name) == (tmp_path,)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# comment\n\na.jpg\r\nfile:///x/b%20c.jpg\n"),
        ("list.csv", 'label,uri\nx,a.jpg\n"y, z",file:///x/b%20c.jpg\n'),
        ("list.jsonl", '{"uri": "a.jpg"}\n"file:///x/b%20c.jpg"\n'),
    ],
)
def test_manifest_lists_paths_and_uris(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    source = open_source(str(tmp_path / name), leave_out=NOWHERE, s3=NO_S3)
    assert list(source.items()) == [
        (file_uri(str(tmp_path / "a.jpg")), ""),
        ("file:///x/b%20c.jpg", ""),
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("list.jsonl", '"a.jpg"\n{"uri": \n', "line 2: not JSON"),
        ("list.jsonl", '{"path": "a.jpg"}\n', "line 1: no text under 'uri'"),
        ("list.csv", "path\na.jpg\n", "line 1: no column 'uri' among"),
        ("list.csv", "uri,label\na.jpg,x,y\n", "line 2: not the 2 columns"),
        ("list.csv", 'uri\n"a.jpg\nb.jpg\n', "not CSV: unexpected end of data"),
        ("list.jsonl", r'"file:///a/\ud83d.jpg"' + "\n", "line 1: .* surrogates not allowed"),
        ("list.txt", "a.jpg\nhttp://host/b.jpg\n", "line 2: 'http://host/b.jpg' is neither"),
        ("list.txt", "s3://bucket/\n", "line 1: .* no object in it"),
        ("list.jsonl", r'"s3://bucket/\ud83d.jpg"' + "\n", "line 1: .* is not UTF-8"),
        ("list.txt", "a\0b.jpg\n", "line 1: .* holds a NUL"),
        ("list.txt", "x" * 20_000 + "\n", "line 1: 20,000 characters, the limit is 16,384"),
        ("list.txt", "file://host/b.jpg\n" * 9, r"line 5: .*; and 4 more"),
    ],
)
def test_broken_manifest_stops_before_any_work(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=said):
        next(iter(open_source(str(tmp_path / name), leave_out=NOWHERE, s3=NO_S3).items()))


@given(st.binary(max_size=400), st.sampled_from([".txt", ".csv", ".jsonl"]))
def test_any_bytes_are_a_manifest_or_a_clear_error(data: bytes, suffix: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"list{suffix}"
        path.write_bytes(data)
        with contextlib.suppress(SourceError):
            for uri, _ in open_source(str(path), leave_out=NOWHERE, s3=NO_S3).items():
                assert uri.startswith("file:///")


@pytest.mark.parametrize(
    "text", ["", "/no/such/folder", "s3:///x", "s3:/x", "http://host/x", "file://host/x"]
)
def test_what_is_no_source_is_said(text: str) -> None:
    with pytest.raises(SourceError):
        open_source(text, leave_out=NOWHERE, s3=NO_S3)
