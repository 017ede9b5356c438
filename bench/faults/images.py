"""Images that end, stop, or bloat whatever decodes them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from bench.faults.cluster import Cluster, Servers
from bench.faults.counting import Proof
from bench.faults.customize import path_of
from tagmill.store import Job

KINDS = ("abort", "abort", "abort", "abort", "loop", "hold", "eat", "eat", "eat", "eat")
"""What the ten images do; see `customize/decoder`."""

WHY = {"abort": "SIGABRT", "loop": "longer than", "hold": "longer than", "eat": "memory"}
"""What the message of each must say."""

LANE_BYTES = 512 << 20

ITEM_TIMEOUT_S, LEASE_S = 3.0, 15.0
"""Far apart: whoever ends a lane has time to say why before another may claim its chunk."""


def fatal(servers: Servers) -> Proof:
    """Ten images among hundreds end their lane: by a crash, by hanging, by eating memory.

    Raises:
        RuntimeError: if one of them is not `lane_lost`, with a message that says why.
    """
    folder = _folder(servers)
    limits = {
        "PYTHONPATH": path_of("decoder"),
        "TAGMILL_LEASE_S": str(LEASE_S),
        "TAGMILL_ITEM_TIMEOUT_S": str(ITEM_TIMEOUT_S),
        "TAGMILL_LANE_BYTES": str(LANE_BYTES),
    }
    with servers.cluster() as cluster:
        cluster.scheduler()
        worker = cluster.worker(**limits)
        job = cluster.enqueue(folder, "--again")
        counted = cluster.count(job, items=servers.field.items + len(KINDS))
        said = _messages(cluster, job)
        lost = worker.said().count("lane lost ")
    for kind, messages in said.items():
        if any(WHY[kind] not in message for message in messages):
            raise RuntimeError(f"images that {kind}: {messages}")
    kinds = Counter({kind: len(messages) for kind, messages in said.items()})
    if kinds != Counter(KINDS) or counted.failed != Counter(lane_lost=len(KINDS)):
        raise RuntimeError(f"{counted}, of those images {kinds}")
    examples = "; ".join(sorted({messages[0] for messages in said.values()}))
    return Proof(counted=(counted,), detail=f"{lost} lanes were lost: {examples}")


def _folder(servers: Servers) -> Path:
    """The photographs, and ten that are marked."""
    folder = servers.field.work / "fatal"
    shutil.copytree(servers.field.folder(), folder, symlinks=True)
    spread = servers.field.photos[:: len(servers.field.photos) // len(KINDS)]
    for number, (kind, photo) in enumerate(zip(KINDS, spread, strict=False)):
        marked = photo.read_bytes() + f"FAULT:{kind}".encode()
        (folder / "0" / f"{photo.stem}-{number}-{kind}.jpg").write_bytes(marked)
    return folder


def _messages(cluster: Cluster, job: Job) -> dict[str, list[str]]:
    """What is said of the images that ended their lane, by what they do."""
    said: dict[str, list[str]] = {}
    for result in cluster.store.outcomes.results(job.id):
        if result.error:
            kind = Path(unquote(result.uri)).stem.rpartition("-")[2]
            said.setdefault(kind, []).append(result.message or "")
    return said
