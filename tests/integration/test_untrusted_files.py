"""Local files that a URI may and may not lead to, whatever is done to folders meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import hostile
from support.polling import missing

from tagmill.contract import Item
from tagmill.errors import ItemError
from tagmill.s3 import S3
from tagmill.settings import load_settings
from tagmill.sources import file_uri, open_source
from tagmill_worker.fetch import LocalFetch
from tagmill_worker.fetch import local as fetch_local

SECRET = b"what nobody outside may read"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a photograph in a folder; beside it a folder of the same names with secrets."""
    for name, content in (("root", hostile.jpeg()), ("outside", SECRET)):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "a.jpg").write_bytes(content)
    return tmp_path / "root"


@pytest.fixture
def outside(root: Path) -> Path:
    return root.parent / "outside"


def read(root: Path, uri: str) -> bytes | str:
    """The bytes, or the code of why there are none."""
    try:
        return LocalFetch([root], max_bytes=1 << 24)(Item(n=0, uri=uri, version="")).data
    except ItemError as error:
        return str(error.code)


def a_link_to_the_file(root: Path, outside: Path) -> None:
    (root / "inner" / "a.jpg").unlink()
    (root / "inner" / "a.jpg").symlink_to(outside / "inner" / "a.jpg")


def a_relative_link_to_the_file(root: Path, outside: Path) -> None:
    (root / "inner" / "a.jpg").unlink()
    (root / "inner" / "a.jpg").symlink_to("../../outside/inner/a.jpg")


def a_link_to_the_folder(root: Path, outside: Path) -> None:
    shutil.rmtree(root / "inner")
    (root / "inner").symlink_to(outside / "inner")


SWAPS = [a_link_to_the_file, a_relative_link_to_the_file, a_link_to_the_folder]


@pytest.mark.parametrize("swap", SWAPS)
def test_what_is_swapped_between_listing_and_reading_is_outside(
    root: Path, outside: Path, swap: Callable[[Path, Path], None]
) -> None:
    source = open_source(str(root), leave_out=Path("/nowhere"), s3=S3(load_settings()))
    ((uri, _),) = source.items()
    assert read(root, uri) == hostile.jpeg()
    swap(root, outside)
    assert read(root, uri) == "outside_roots"


@pytest.mark.parametrize("swap", SWAPS)
def test_what_is_swapped_between_resolving_and_opening_is_not_followed(
    root: Path, outside: Path, swap: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = fetch_local._opened
    monkeypatch.setattr(
        fetch_local, "_opened", lambda *a, **k: (swap(root, outside), opened(*a, **k))[1]
    )
    assert read(root, file_uri(str(root / "inner" / "a.jpg"))) == "not_found"


def test_a_folder_that_is_swapped_all_the_time_never_gives_what_lies_outside(
    root: Path, outside: Path
) -> None:
    uri = file_uri(str(root / "inner" / "a.jpg"))
    (root.parent / "link").symlink_to(outside / "inner")
    is_over = threading.Event()

    def swap() -> None:
        """Put the link and the folder into each other's place, in turns."""
        names = [root / "inner", root.parent / "link", root.parent / "aside"]
        while not is_over.is_set():
            for n in (0, 1, 2):
                os.rename(names[n], names[n - 1])

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        found = [read(root, uri) for _ in range(3_000)]
    finally:
        is_over.set()
        swapping.join()
    assert SECRET not in found
    assert hostile.jpeg() in found


def test_links_to_folders_are_not_walked_into(root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    source = open_source(str(root), leave_out=Path("/nowhere"), s3=S3(load_settings()))
    assert [uri for uri, _ in source.items()] == [file_uri(str(root / "inner" / "a.jpg"))]
    assert source.passed_over["link to a folder"] == 1
    assert read(root, file_uri(str(root / "link" / "inner" / "a.jpg"))) == "outside_roots"


@contextlib.contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux only")
def test_ways_through_proc_and_dev_lead_outside_too(root: Path, outside: Path) -> None:
    with (outside / "inner" / "a.jpg").open("rb") as file, standing_in(outside):
        ways = [
            f"/proc/self/root{outside}/inner/a.jpg",
            f"/proc/{os.getpid()}/root{outside}/inner/a.jpg",
            f"/proc/thread-self/root{outside}/inner/a.jpg",
            f"/proc/self/fd/{file.fileno()}",
            f"/dev/fd/{file.fileno()}",
            "/proc/self/cwd/inner/a.jpg",
            "/proc/self/environ",
            "/proc/self/cmdline",
            "/proc/self/exe",
            f"/proc/self/root{root}/../outside/inner/a.jpg",
        ]
        for number, way in enumerate(ways):
            assert read(root, f"file://{way}") == "outside_roots", way
            link = root / f"{number}.jpg"
            link.symlink_to(way)
            assert read(root, file_uri(str(link))) == "outside_roots", f"a link to {way}"
    inside = f"/proc/self/root{root}/inner/a.jpg"
    assert read(root, f"file://{inside}") == hostile.jpeg(), "what leads inside is inside"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux only")
def test_where_all_is_allowed_nothing_but_files_is_read_and_none_without_end(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "fifo")
    reading, writing = os.pipe()
    with socket.socket() as listening, contextlib.closing(os.fdopen(writing, "wb")):
        ways = [
            str(tmp_path / "fifo"), "/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/kmsg",
            "/proc/self/pagemap", "/proc/kcore", f"/proc/self/fd/{reading}", "/proc/self/fd",
            f"/proc/self/fd/{listening.fileno()}", "/sys/kernel/debug", "/dev/tty",
        ]  # fmt: skip
        for way in ways:
            found = read(Path("/"), f"file://{way}")
            assert found == b"" or isinstance(found, str), way
    os.close(reading)


@pytest.fixture
def mounted(root: Path, outside: Path) -> Iterator[Path]:
    """A folder of the root where the one outside is mounted."""
    place = root / "mounted"
    place.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "--bind", outside, place], capture_output=True
    )
    if not made or made.returncode != 0:
        missing("only root may mount")
    yield place
    subprocess.run(["umount", place], check=True)


def test_what_an_operator_mounted_below_a_root_is_read_save_devices_fifos_and_ways_out(
    root: Path, outside: Path, mounted: Path
) -> None:
    """Nobody else can mount, and roots of clusters are mounts themselves."""
    os.mkfifo(outside / "fifo.jpg")
    os.mknod(outside / "device.jpg", 0o20666, os.makedev(1, 5))
    (outside.parent / "further.jpg").write_bytes(SECRET)
    (outside / "link.jpg").symlink_to("../further.jpg")
    ends = {
        "inner/a.jpg": SECRET,
        "fifo.jpg": "not_an_image",
        "device.jpg": "not_an_image",
        "../../further.jpg": "outside_roots",
        "link.jpg": "not_found",
    }
    assert {name: read(root, f"file://{mounted}/{name}") for name in ends} == ends
