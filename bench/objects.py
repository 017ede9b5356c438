"""The same photographs in S3 and on local disk, with the same lanes."""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import psutil

from bench.ground import Ground
from bench.steady import steady_rate
from bench.table import Row

PAIRS = 3
LEAST = 0.85
BUCKET = "photographs"


def rows(ground: Ground) -> Iterator[Row]:
    """Run both in turns, on all cores but the one that moto gets; the medians count."""
    lanes = max(1, ground.lanes - 1)
    rates, moto_s = [], []
    with _moto() as (server, environment):
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="bench",
            aws_secret_access_key="bench",
            region_name="us-east-1",
        )
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


@contextmanager
def _moto() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """A moto server, and the environment by which the command finds it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield (
            psutil.Process(process.pid),
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_DEFAULT_REGION": "us-east-1",
                "TAGMILL_S3_PATH_STYLE": "1",
            },
        )
    finally:
        process.terminate()
        process.wait(20)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
