"""A listing goes on from any place, whatever was removed, added or replaced meanwhile."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.errors import SourceError
from tagmill.s3 import S3
from tagmill.settings import load_settings
from tagmill.sources import Position, Source, file_uri, open_source, path_of

NO_S3 = S3(load_settings())

PARTS = st.sampled_from(["a", "b", "a.jpg", "a-b", "a b", "é", "\udcff", "B", "a0"])
TREES = st.lists(st.lists(PARTS, max_size=3).map("/".join), max_size=12)


def opened(text: object) -> Source:
    return open_source(str(text), leave_out=Path("/nowhere"), s3=NO_S3)


@contextlib.contextmanager
def tree(folders: list[str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        for n, folder in enumerate(folders):
            where = Path(made, "d" + folder.replace("/", "/d"))
            where.mkdir(parents=True, exist_ok=True)
            (where / f"{folder.rpartition('/')[2]}{n % 3}.jpg").touch()
        yield Path(made)


def assert_goes_on_from_everywhere(source: Source) -> None:
    whole = list(source.items())
    for k in range(1, len(whole) + 1):
        after = Position(n=k, uri=whole[k - 1][0])
        assert whole[:k] + list(source.items(after=after)) == whole


@given(TREES)
def test_folder_and_pattern_go_on_from_every_place(folders: list[str]) -> None:
    with tree(folders) as root:
        assert_goes_on_from_everywhere(opened(root))
        assert_goes_on_from_everywhere(opened(f"{root}/**/*.jpg"))


@given(TREES, st.data())
def test_what_comes_next_does_not_change_when_the_last_one_is_gone(
    folders: list[str], data: st.DataObject
) -> None:
    with tree([*folders, ""]) as root:
        for source in (opened(root), opened(f"{root}/**/*.jpg")):
            whole = list(source.items())
            if not whole:
                continue
            k = data.draw(st.integers(1, len(whole)))
            last = Path(path_of(whole[k - 1][0]))
            if last.parent != root and data.draw(st.booleans()):
                shutil.rmtree(last.parent)
            else:
                last.unlink()
            left = [item for item in whole[k:] if Path(path_of(item[0])).exists()]
            assert list(source.items(after=Position(n=k, uri=whole[k - 1][0]))) == left


def test_a_folder_in_the_place_of_the_last_file_and_a_file_in_that_of_its_folder(
    tmp_path: Path,
) -> None:
    for name in ("a/x.jpg", "b.jpg/y.jpg", "c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names_after(name: str) -> list[str]:
        after = Position(n=1, uri=file_uri(f"{tmp_path}/{name}"))
        uris = [uri for uri, _ in opened(tmp_path).items(after=after)]
        return [path_of(uri).removeprefix(f"{tmp_path}/") for uri in uris]

    assert names_after("b.jpg") == ["b.jpg/y.jpg", "c.jpg"]
    assert names_after("c.jpg/was/deeper.jpg") == []
    assert names_after("a/w.jpg") == ["a/x.jpg", "b.jpg/y.jpg", "c.jpg"]
    with pytest.raises(SourceError, match="is no place in"):
        list(opened(tmp_path).items(after=Position(n=1, uri="file:///elsewhere/a.jpg")))


def test_folders_before_the_place_are_not_read(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/notes.txt", "b/2.jpg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    source = opened(tmp_path)
    assert not list(source.items(after=Position(n=2, uri=file_uri(f"{tmp_path}/b/2.jpg"))))
    assert source.passed_over == {"no image suffix": 1}


def test_nothing_comes_after_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    assert_goes_on_from_everywhere(opened(tmp_path / "one"))


@pytest.mark.parametrize(
    ("name", "head", "line"),
    [
        ("list.txt", "# comment\n", "{}\n"),
        ("list.csv", "uri\n", "{}\n"),
        ("list.jsonl", "", '"{}"\n'),
    ],
)
def test_manifest_goes_on_from_every_place_also_where_entries_come_twice(
    tmp_path: Path, name: str, head: str, line: str
) -> None:
    entries = ["a.jpg", "b.jpg", "a.jpg", "s3://bucket/c.jpg", "file:///d.jpg"]
    manifest = tmp_path / name
    manifest.write_text(head + "".join(line.format(entry) for entry in entries))
    (tmp_path / "b.jpg").touch()
    source = opened(manifest)
    whole = list(source.items())
    assert_goes_on_from_everywhere(source)
    (tmp_path / "b.jpg").unlink()
    assert list(source.items(after=Position(n=2, uri=whole[1][0]))) == whole[2:]


def test_manifest_may_grow_and_must_not_change_before_the_place(tmp_path: Path) -> None:
    manifest = tmp_path / "list.txt"
    manifest.write_text("a.jpg\nb.jpg\n")
    after = Position(n=2, uri=file_uri(f"{tmp_path}/b.jpg"))
    manifest.write_text("a.jpg\nb.jpg\nc.jpg\n")
    assert [uri for uri, _ in opened(manifest).items(after=after)] == [
        file_uri(f"{tmp_path}/c.jpg")
    ]
    for changed, now in (("b.jpg\nc.jpg\n", "c.jpg"), ("a.jpg\n", "missing")):
        manifest.write_text(changed)
        with pytest.raises(SourceError, match=rf"entry 2 was .*b.jpg, now it is .*{now}"):
            list(opened(manifest).items(after=after))
