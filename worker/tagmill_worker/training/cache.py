"""What was computed of images, by their content: vectors that a later training need not compute.

One SQLite file. It is a cache: whatever is wrong with it, it is begun anew and the vectors are
computed again.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from tagmill.errors import MissingError, StoreFull

log = logging.getLogger(__name__)

MOST_BYTES = 4 << 30
"""Of the file: some 800,000 vectors of MobileNetV2's 1280 numbers."""

BUSY_S = 30.0
_BATCH = 500  # variables of a statement

Vector: TypeAlias = npt.NDArray[np.float32]
T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS contents (
    uri TEXT PRIMARY KEY, version TEXT NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
    id INTEGER PRIMARY KEY, model TEXT NOT NULL, digest TEXT NOT NULL,
    crc INTEGER NOT NULL, vector BLOB NOT NULL, UNIQUE (digest, model)
);
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """A vector and what it is of.

    Attributes:
        uri: where the content was read.
        version: of what was read, empty where unknown: then its place is not remembered.
        digest: SHA-256 of the content in hex.
        vector: float32; ``None`` where the cache has it already.
    """

    uri: str
    version: str
    digest: str
    vector: Vector | None


class VectorCache:
    """Vectors by model and content, and contents by URI and version.

    Attributes:
        path: as below.

    Args:
        path: of the file; its folder need not exist.
        most_bytes: that it may grow to; the oldest vectors go first.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._made: sqlite3.Connection | None = None

    def digests(self, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The contents of those (URI, version) that were read before."""
        found: dict[tuple[str, str], str] = {}
        with self._renewed():
            for some in _batches(places):
                marks = ",".join("?" * len(some))
                rows = self._connection.execute(
                    f"SELECT uri, version, digest FROM contents WHERE uri IN ({marks})",  # noqa: S608  # question marks
                    [uri for uri, _ in some],
                )
                known = {(uri, version): digest for uri, version, digest in rows}
                found.update({place: known[place] for place in some if place in known})
        return found

    def vectors(self, model: str, digests: Sequence[str]) -> dict[str, Vector]:
        """The vectors that are there and sound, by content."""
        found: dict[str, Vector] = {}
        with self._renewed():
            for some in _batches(digests):
                marks = ",".join("?" * len(some))
                rows = self._connection.execute(
                    f"SELECT digest, crc, vector FROM vectors WHERE model = ? AND digest IN ({marks})",  # noqa: S608, E501  # question marks
                    [model, *some],
                )
                for digest, crc, vector in rows:
                    if zlib.crc32(vector) == crc:
                        found[digest] = np.frombuffer(vector, np.float32)
        return found

    def add(self, model: str, computed: Iterable[Computed]) -> None:
        """Keep what was computed, all of it or nothing.

        Raises:
            StoreFull: if there is no room left.
        """
        rows = list(computed)
        with self._renewed(), self._connection as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO contents VALUES (?, ?, ?)",
                [(row.uri, row.version, row.digest) for row in rows if row.version],
            )
            blobs = [(row.digest, row.vector.tobytes()) for row in rows if row.vector is not None]
            connection.executemany(
                "INSERT OR REPLACE INTO vectors (model, digest, crc, vector) VALUES (?, ?, ?, ?)",
                [(model, digest, zlib.crc32(blob), blob) for digest, blob in blobs],
            )

    def trim(self) -> None:
        """Let the oldest vectors go until the file is within its limit again."""
        with self._renewed():
            pages, size, free = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size", "freelist_count")
            )
            used = (pages - free) * size
            if used <= self._most_bytes:
                return
            with self._connection as connection:
                (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
                # A tenth more than needed, so that not every training has to.
                going = int(count * min(1.0, 1.1 - self._most_bytes / used))
                connection.execute(
                    "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT ?)",
                    (going,),
                )
                connection.execute(
                    "DELETE FROM contents WHERE digest NOT IN (SELECT digest FROM vectors)"
                )
            log.info("the vectors' cache was trimmed, vectors=%d of=%d", going, count)

    def close(self) -> None:
        """Close the file, which the next use opens again."""
        if self._made is not None:
            self._made.close()
            self._made = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._made is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise MissingError(f"{self.path.parent}: {error.strerror}") from error
            self._made = sqlite3.connect(self.path, timeout=BUSY_S)
            self._made.execute("PRAGMA journal_mode = WAL")
            self._made.execute("PRAGMA synchronous = NORMAL")
            self._made.executescript(_SCHEMA)
        return self._made

    @contextlib.contextmanager
    def _renewed(self) -> Iterator[None]:
        """Take a file that is no sound database away, as if it had been empty.

        Raises:
            StoreFull: if there is no room left.
            MissingError: if the file cannot be used.
        """
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise StoreFull(f"no room left for {self.path}") from error
            raise MissingError(f"{self.path} cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            log.warning("the vectors' cache is broken and begun anew: %s", error)
            self.close()
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _batches(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[i : i + _BATCH] for i in range(0, len(things), _BATCH))
