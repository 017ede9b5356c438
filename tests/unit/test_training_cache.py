"""The cache of vectors: what is in it is right, and what is wrong with it costs only time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from tagmill_worker.training.cache import Computed, VectorCache


def computed(number: int, width: int = 8) -> Computed:
    vector = np.full(width, number, np.float32)
    return Computed(uri=f"file:///{number}", version="1-1", digest=f"{number:064}", vector=vector)


def test_vectors_are_kept_by_model_and_content_and_places_by_version(tmp_path: Path) -> None:
    path = tmp_path / "there" / "vectors.db"
    VectorCache(path).add("m", [computed(n) for n in range(1_200)])
    cache = VectorCache(path)
    assert cache.digests([("file:///7", "1-1"), ("file:///8", "2-2"), ("file:///x", "1-1")]) == {
        ("file:///7", "1-1"): f"{7:064}"
    }
    found = cache.vectors("m", [f"{n:064}" for n in range(1_300)])
    assert len(found) == 1_200
    assert (found[f"{42:064}"] == 42).all()
    assert not cache.vectors("other", [f"{1:064}"])


def test_a_vector_that_was_harmed_is_not_there(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.db")
    cache.add("m", [computed(1), computed(2)])
    cache.close()
    with sqlite3.connect(tmp_path / "vectors.db") as other:
        other.execute("UPDATE vectors SET vector = zeroblob(32) WHERE digest = ?", (f"{1:064}",))
    other.close()
    assert set(cache.vectors("m", [f"{1:064}", f"{2:064}"])) == {f"{2:064}"}


def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "vectors.db"
    path.write_bytes(b"no database " * 1_000)
    cache = VectorCache(path)
    assert cache.vectors("m", [f"{1:064}"]) == {}
    cache.add("m", [computed(1)])
    assert len(cache.vectors("m", [f"{1:064}"])) == 1


def test_the_oldest_vectors_go_where_there_are_too_many(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors.db", most_bytes=400_000)
    for start in range(0, 200, 20):
        cache.add("m", [computed(n, 1_280) for n in range(start, start + 20)])
        cache.trim()
    kept = cache.vectors("m", [f"{n:064}" for n in range(200)])
    assert 30 < len(kept) < 80
    assert f"{199:064}" in kept
    assert ("file:///0", "1-1") not in cache.digests([("file:///0", "1-1")])
