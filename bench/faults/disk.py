"""A disk that is full under the state folder of `tagmill run`."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.faults.cluster import BUSY, DONE_S
from bench.faults.counting import Counted, Proof, count
from bench.faults.field import FEW, Field, clean_environment
from bench.faults.programs import Program, until
from tagmill.store import Store

SIZE = "24m"
BALLAST_BYTES = 12 << 20
REFUSED = 3


class NoMount(Exception):
    """This machine mounts nothing."""


def full(field: Field) -> Proof:
    """A state folder of 24 MiB that is filled while lanes are at work; then there is room again.

    Raises:
        NoMount: if there can be no such folder.
        RuntimeError: if the run does not say what is wrong.
    """
    with small_disk(field.work / "small") as small:
        roots = f"{field.work}:{field.photos[0].parent}"
        environment = clean_environment(small, field.models) | {"TAGMILL_ROOTS": roots}
        ballast = small / "ballast"
        words = ["run", str(field.folder())]
        run = Program(words, environment, field.work / "full.log")
        file = small / "state" / "tagmill.db"
        until(lambda: _outcomes(file) > BUSY, within_s=DONE_S, what="lanes at work")
        ballast.write_bytes(b"x" * BALLAST_BYTES)
        said = _refused(run)
        said += _refused(Program(words, environment, field.work / "full-again.log"))
        ballast.unlink()
        more = Program(words, environment, field.work / "room.log")
        if more.wait(DONE_S) != 0:
            raise RuntimeError(f"with room again: {more.said()}")
        following = Program(
            ["run", str(field.few), "--again"], environment, field.work / "next.log"
        )
        next_is_done = following.wait(DONE_S) == 0
        store = Store(f"sqlite:///{file}")
        last, job = store.jobs.recent(2)
        counted = count(store, job.id, items=field.items, labels=field.labels)
        after = count(store, last.id, items=FEW, labels=field.labels)
        store.close()
    both = Counted(**{**vars(counted), "next_is_done": next_is_done and after.is_whole})
    return Proof(counted=(both,), detail=said)


def _refused(run: Program) -> str:
    code = run.wait(DONE_S)
    lines = [line for line in run.said().splitlines() if "no room left" in line]
    if code != REFUSED or not lines:
        raise RuntimeError(f"exit code {code}: {run.said()}")
    return lines[-1] + " "


def _outcomes(file: Path) -> int:
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection,
    ):
        return int(connection.execute("SELECT count(*) FROM outcomes").fetchone()[0])
    return 0


@contextmanager
def small_disk(folder: Path, size: str = SIZE) -> Iterator[Path]:
    """A folder that is a disk of that size.

    Raises:
        NoMount: if there can be none.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        raise NoMount
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
