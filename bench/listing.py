"""Enqueueing a folder of very many files: how fast, and what the producer keeps in memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.ground import Ground
from bench.table import Row

FILES = 200_000
PER_FOLDER = 2_000
LEAST_PER_S, MOST_GROWTH = 30_000, 150 << 20


def rows(ground: Ground) -> Iterator[Row]:
    """Make the folder, then list and enqueue it in a process of its own."""
    folder = ground.work / "many"
    for start in range(0, FILES, PER_FOLDER):
        below = folder / f"{start:06}"
        below.mkdir(parents=True)
        for n in range(start, start + PER_FOLDER):
            (below / f"{n:06}.jpg").write_bytes(b"tiny")
    walked = _walk(folder)
    done = subprocess.run(
        [sys.executable, "-m", "bench.listing", str(folder), str(ground.work / "listing")],
        env=ground.environment("listing"),
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    found = json.loads(done.stdout)
    rate = FILES / found["seconds"]
    yield Row(
        what=f"enqueueing a folder of {FILES:,} tiny files: into SQLite, one message per chunk "
        "to the embedded broker",
        figure=f"{rate:,.0f} files/s",
        wanted=f"≥ {LEAST_PER_S:,}/s",
        holds=rate >= LEAST_PER_S and found["listed"] == FILES,
        detail=f"{found['chunks']:,} chunks; a bare walk with `stat` does "
        f"{FILES / walked:,.0f} files/s",
    )
    yield Row(
        what="growth of the producer's memory meanwhile",
        figure=f"{found['growth'] / (1 << 20):,.0f} MiB",
        wanted=f"< {MOST_GROWTH >> 20} MiB",
        holds=found["growth"] < MOST_GROWTH,
        detail="peak over what it had before",
    )


def _walk(folder: Path) -> float:
    began = time.perf_counter()
    for below, _, names in os.walk(folder):
        for name in names:
            os.stat(f"{below}/{name}")
    return time.perf_counter() - began


def enqueue_alone(name: str, state: Path) -> None:
    """Enqueue a source with the real store and broker and no lanes; print what it took."""
    from pydantic import SecretStr

    from tagmill.broker import Broker
    from tagmill.embedded import EmbeddedBroker
    from tagmill.enqueue import enqueue
    from tagmill.s3 import S3
    from tagmill.settings import load_settings
    from tagmill.sources import open_source
    from tagmill.state_folder import StateFolder
    from tagmill.store import Store

    settings = load_settings(state_dir=state)
    held = StateFolder(state)
    with held.locked():
        store = Store(settings.store_address)
        store.prepare()
        server = EmbeddedBroker(held)
        server.start()
        try:
            sender = Broker(settings.model_copy(update={"broker_url": SecretStr(server.url)}))
            source = open_source(name, leave_out=state, s3=S3(settings))
            job = store.jobs.create(source=source.name, model="mobilenet_v2@1", top_k=5)
            before = psutil.Process().memory_info().rss
            began, cpu_began = time.perf_counter(), time.process_time()
            enqueue(
                source.items(),
                job,
                store=store,
                send=sender.send,
                lanes=2,
                chunk_items=settings.chunk_items,
            )
            seconds = time.perf_counter() - began
            cpu_s = time.process_time() - cpu_began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # KiB on Linux
            done = store.jobs.get(job.id)
            sender.close()
        finally:
            server.stop()
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_s": cpu_s,
                "growth": max(0, peak - before),
                "listed": done.listed,
                "chunks": done.chunks,
            }
        )
    )


if __name__ == "__main__":
    enqueue_alone(sys.argv[1], Path(sys.argv[2]))
