"""An S3 that fails at a tenth of the requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

from bench.faults.cluster import Servers
from bench.faults.counting import Proof
from bench.faulty_proxy import FAULTS, STALL, FaultyProxy
from bench.moto import client_of

BUCKET = "faults"
ALL = (*FAULTS, STALL)
FEW_STALLS = (*(FAULTS * 6), STALL)
"""For whoever has little time: each stall costs what a client waits."""

DONE_S = 600.0
"""For a job in which nearly every fourth chunk meets a stall of half a minute."""


def faulty(servers: Servers, s3: Mapping[str, str], *, kinds: Sequence[str] = ALL) -> Proof:
    """Label objects through a proxy that answers wrongly, cuts off, and says nothing.

    Args:
        servers: for the rest.
        s3: the environment by which a sound S3 is found.
        kinds: of faults, as they come.

    Raises:
        RuntimeError: if not every kind was met.
    """
    _fill(servers, s3)
    port = urlsplit(s3["AWS_ENDPOINT_URL"]).port or 0
    with closing(FaultyProxy(port, kinds)) as proxy:
        through = {**s3, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        with servers.cluster(**through) as cluster:
            cluster.scheduler()
            cluster.worker()
            job = cluster.enqueue(f"s3://{BUCKET}/")
            cluster.await_done(job, DONE_S)
            counted = cluster.count(job)
        met = proxy.faults
    if met.keys() != set(kinds):
        raise RuntimeError(f"only {dict(met)} were met")
    said = ", ".join(f"{count} × {kind}" for kind, count in met.items())
    return Proof(counted=(counted,), detail=said)


def _fill(servers: Servers, s3: Mapping[str, str]) -> None:
    client = client_of(s3)
    client.create_bucket(Bucket=BUCKET)
    folder = servers.field.folder()

    def put(name: str) -> None:
        client.put_object(Bucket=BUCKET, Key=name, Body=(folder / name).read_bytes())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, [str(path.relative_to(folder)) for path in folder.glob("*/*.jpg")]))
