"""Enqueueing a bucket of very many keys: how fast, and what the producer keeps in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil

from bench.ground import Ground
from bench.many_keys import BUCKET, PER_FOLDER
from bench.moto import free_port, s3_server
from bench.services import cpu_s
from bench.table import Row

KEYS, MOTO_KEYS = 500_000, 50_000
LEAST_PER_S, MOST_GROWTH = 5_000, 100 << 20
LONGEST_S = 300


def rows(ground: Ground) -> Iterator[Row]:
    """List and enqueue from both servers, each time in a process of its own."""
    found, server_s = _listed(ground, "sorted", KEYS)
    rate = KEYS / found["seconds"]
    yield Row(
        what=f"listing a bucket of {KEYS:,} keys in {KEYS // PER_FOLDER} folders and enqueueing it "
        "into SQLite and the embedded broker; S3 is a stand-in that answers ListObjectsV2 from a "
        "sorted list",
        figure=f"{rate:,.0f} keys/s",
        wanted=f"≥ {LEAST_PER_S:,}/s",
        holds=rate >= LEAST_PER_S and found["listed"] == KEYS,
        detail=_shares(found, server_s),
    )
    yield Row(
        what="growth of the producer's memory meanwhile",
        figure=f"{found['growth'] / (1 << 20):,.0f} MiB",
        wanted=f"< {MOST_GROWTH >> 20} MiB",
        holds=found["growth"] < MOST_GROWTH,
        detail="peak over what it had before; boto3 and its client came meanwhile",
    )
    found, server_s = _listed(ground, "moto", MOTO_KEYS)
    yield Row(
        what=f"the same with {MOTO_KEYS:,} keys in moto, which looks through all of its keys for "
        "each answer",
        figure=f"{MOTO_KEYS / found['seconds']:,.0f} keys/s",
        detail=f"{_shares(found, server_s)}: {MOTO_KEYS / found['cpu_s']:,.0f} keys in each second "
        "of the producer's own",
    )


def _shares(found: dict[str, Any], server_s: float) -> str:
    return (
        f"{found['seconds']:.1f} s, in which the server took {server_s:.1f} s of processor time "
        f"and the producer {found['cpu_s']:.1f} s"
    )


def _listed(ground: Ground, kind: str, count: int) -> tuple[dict[str, Any], float]:
    """What the producer said, and the processor time that the server took for it."""
    port = free_port()
    module = ["bench.many_keys", kind, str(port), str(count)]
    with s3_server(module, port) as (process, environment):
        server = psutil.Process(process.pid)
        before = cpu_s(server)
        state = f"s3-listing-{kind}"
        done = subprocess.run(
            [sys.executable, "-m", "bench.listing", f"s3://{BUCKET}/", str(ground.work / state)],
            env={**ground.environment(state, models=ground.work / "none"), **environment},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            timeout=LONGEST_S,
        )
        return json.loads(done.stdout), cpu_s(server) - before
