"""`python -m bench [NAME …]`: run benchmarks and print their rows as one table."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.ground import Ground
from bench.table import Row, show

ALL = (
    "steady",
    "whole_command",
    "start",
    "memory",
    "second_run",
    "listing",
    "objects",
    "cluster",
    "ledger",
    "scaling",
    "s3_listing",
    "results",
    "accuracy",
    "training",
    "promotion",
    "fuzz",
)

BY_NAME = ("chaos",)
"""Benchmarks that run only where they are named: of what holds, not of what is fast."""


def main() -> None:
    """Run what was asked for."""
    there = (*ALL, *BY_NAME)
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(there)} [all but {', '.join(BY_NAME)}]",
    )
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"))
    parser.add_argument("--only", metavar="WORDS", default="", help="of chaos, rows that have them")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(there)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(there)}")
    if not any(asked.photos.glob("*.jpg")):
        parser.error(f"no photographs in {asked.photos}: name a folder with --photos")
    beside = asked.photos.parent / "weights" / "mobilenet_v2_imagenet.weights.h5"
    if beside.is_file():
        os.environ.setdefault("TAGMILL_WEIGHTS", str(beside.absolute()))
    lanes = len(os.sched_getaffinity(0))
    print(f"{_machine(lanes)}\n")
    with tempfile.TemporaryDirectory(prefix="tagmill-bench-") as work:
        photos = asked.photos.absolute()
        ground = Ground(photos=photos, work=Path(work), lanes=lanes, only=asked.only)
        try:
            show(_rows(asked.names or ALL, ground))
        except subprocess.CalledProcessError as error:
            sys.exit(f"stopped: {' '.join(error.cmd)} ended with {error.returncode}")


def _rows(names: tuple[str, ...] | list[str], ground: Ground) -> Iterator[Row]:
    for name in names:
        yield from import_module(f"bench.{name}").rows(ground)


def _machine(lanes: int) -> str:
    said = []
    for package in ("tagmill", "pillow", "ai-edge-litert", "tensorflow-cpu", "keras", "celery"):
        try:
            said.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"{lanes} cores, {_processor()}, Python {platform.python_version()}, {', '.join(said)}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


if __name__ == "__main__":
    main()
