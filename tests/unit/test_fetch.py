from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import hostile

from tagmill.contract import Item
from tagmill.errors import PermanentItemError, TransientItemError
from tagmill.sources import file_uri
from tagmill_worker.fetch.local import LocalFetch, _parts


def item(path: Path | str) -> Item:
    return Item(n=0, uri=file_uri(str(path)), version="")


def code_of(fetch: LocalFetch, what: Item) -> str:
    with pytest.raises(PermanentItemError) as caught:
        fetch(what)
    return caught.value.code


def test_hostile_folder_is_read_where_it_may_be_and_nothing_else_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    expected = hostile.fill(folder, tmp_path / "outside")
    fetch = LocalFetch([folder], max_bytes=1 << 24)
    refused = {"outside_roots", "not_found"}
    for name, code in expected.items():
        if code in refused or name in ("fifo.jpg", "socket.jpg"):
            assert code_of(fetch, item(folder / name)) == code, name
        else:
            assert fetch(item(folder / name)).data == (folder / name).read_bytes(), name


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device files")
def test_device_file_is_not_opened(tmp_path: Path) -> None:
    os.mknod(tmp_path / "device.jpg", 0o20666, os.makedev(1, 5))
    assert code_of(LocalFetch([tmp_path], max_bytes=100), item(tmp_path / "device.jpg")) == (
        "not_an_image"
    )


def test_no_permission_is_forbidden(
    tmp_path: Path, as_nobody: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() and folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    path = tmp_path / "mine.jpg"
    path.write_bytes(hostile.jpeg())
    path.chmod(0)
    fetch = LocalFetch([tmp_path], max_bytes=1 << 20)
    with as_nobody():
        assert code_of(fetch, item(path)) == "forbidden"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file://{root}/../outside/secret.jpg",
        "file://{root}/%2e%2e/outside/secret.jpg",
        "file:///proc/self/root{root}/../outside/secret.jpg",
        "file://{root}-beside/x.jpg",
    ],
)
def test_nothing_outside_the_roots_is_read(tmp_path: Path, uri: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for folder in (tmp_path / "outside", tmp_path / "root-beside"):
        folder.mkdir()
    (tmp_path / "outside" / "secret.jpg").write_bytes(b"x")
    (tmp_path / "root-beside" / "x.jpg").write_bytes(b"x")
    fetch = LocalFetch([root], max_bytes=100)
    asked = Item(n=0, uri=uri.format(root=root), version="")
    assert code_of(fetch, asked) == "outside_roots"


@pytest.mark.parametrize(
    "uri", ["http://host/x.jpg", "file://host/x.jpg", "x.jpg", "", "file:///a%00b.jpg", "file://["]
)
def test_what_is_no_local_uri_is_not_found(tmp_path: Path, uri: str) -> None:
    fetch = LocalFetch([Path("/")], max_bytes=100)
    assert code_of(fetch, Item(n=0, uri=uri, version="")) == "not_found"


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte
    fetch = LocalFetch([tmp_path], max_bytes=1000)
    with pytest.raises(PermanentItemError, match=r"1,099,511,627,776 bytes, the limit is 1,000"):
        fetch(item(tmp_path / "huge.jpg"))


def test_the_version_is_of_what_was_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    fetched = LocalFetch([tmp_path], max_bytes=100)(item(path))
    assert fetched.version == f"5-{path.stat().st_mtime_ns}"


def test_reading_that_ends_early_is_worth_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    real = os.fstat

    def longer(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        return os.stat_result([*found[:6], found.st_size + 3, *found[7:]])

    monkeypatch.setattr("tagmill_worker.fetch.local.os.fstat", longer)
    with pytest.raises(TransientItemError, match="reading ended after 5 of 8 bytes"):
        LocalFetch([tmp_path], max_bytes=100)(item(path))


def test_a_read_may_bring_less_than_was_asked_for() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(2, size or 0))

    assert b"".join(_parts(Slow(b"12345678"), 7)) == b"1234567"
