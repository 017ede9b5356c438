"""The same photographs in S3 and on local disk, with the same lanes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import psutil

from bench.ground import Ground
from bench.moto import client_of, moto_server
from bench.steady import steady_rate
from bench.table import Row

PAIRS = 3
LEAST = 0.85
BUCKET = "photographs"


def rows(ground: Ground) -> Iterator[Row]:
    """Run both in turns, on all cores but the one that moto gets; the medians count."""
    lanes = max(1, ground.lanes - 1)
    rates, moto_s = [], []
    with moto_server() as (process, environment):
        server = psutil.Process(process.pid)
        client = client_of(environment)
        client.create_bucket(Bucket=BUCKET)
        for path in sorted(ground.thousand.iterdir()):
            client.put_object(Bucket=BUCKET, Key=path.name, Body=path.read_bytes())
        for turn in range(PAIRS):
            ground.run(f"disk{turn}", lanes=lanes)
            before = _cpu_s(server)
            ground.run(f"s3{turn}", source=f"s3://{BUCKET}/", lanes=lanes, **environment)
            moto_s.append(_cpu_s(server) - before)
            rates.append((steady_rate(ground, f"s3{turn}"), steady_rate(ground, f"disk{turn}")))
    ratio = statistics.median(s3 / disk for s3, disk in rates)
    s3, disk = (statistics.median(found) for found in zip(*rates, strict=True))
    yield Row(
        what="`tagmill run` on 1,000 photographs in S3 (moto) against the same on local disk, "
        f"with {lanes} lane{'s' if lanes > 1 else ''}, from the first chunk's start to the last "
        "commit",
        figure=f"{ratio:.3f}",
        wanted=f"≥ {LEAST}",
        holds=ratio >= LEAST,
        detail=f"{s3:,.0f} against {disk:,.0f} images/s, median of {PAIRS} pairs; moto itself took "
        f"{statistics.median(moto_s):.1f} s of processor time, on the core that no lane had",
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
