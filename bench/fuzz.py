"""Ten thousand hostile inputs through everything that reads what others wrote."""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.ground import Ground
from bench.table import Row
from tagmill.settings import Settings

COUNTS = {
    "image": 6_000,
    "manifest": 1_000,
    "uri": 800,
    "message": 600,
    "body": 600,
    "settings": 400,
    "card": 300,
    "labels": 300,
}
LONGEST_S = 20.0
"""For one input; a lane labels a hundred images in a second."""

START_S = 60.0

BYTES_PER_PIXEL = 16
"""What an honest WebP takes: two canvases of its decoder, one of Pillow, one to resize."""

MOST_GROWTH = BYTES_PER_PIXEL * int(Settings.model_fields["max_pixels"].default)
MOST_ADDRESSES = 2 * MOST_GROWTH
"""What the process may reserve beyond what it had: the machine is spared a worse input."""

MIB = 1 << 20


@dataclass(kw_only=True)
class Found:
    """What became of the inputs of a kind.

    Attributes:
        ends: how often each documented end came.
        faults: inputs with an error that is none of ours, as (number, error).
        crashes: inputs that ended the process, as (number, signal or code).
        hangs: numbers of inputs that took longer than they may.
        slowest: seconds, and the input's number.
        largest: growth of resident memory in bytes, and the input's number.
    """

    ends: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)
    crashes: list[tuple[int, int]] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, 0)
    largest: tuple[int, int] = (0, 0)


def rows(ground: Ground) -> Iterator[Row]:
    """Feed every input in a process that may die of it; the next one goes on behind it."""
    found = {name: _fed(ground, name, count) for name, count in COUNTS.items()}
    total = sum(COUNTS.values())
    faults = [f"{name} {n}: {why}" for name, one in found.items() for n, why in one.faults]
    crashes = [f"{name} {n}: {code}" for name, one in found.items() for n, code in one.crashes]
    hangs = [f"{name} {n}" for name, one in found.items() for n in one.hangs]
    yield _row(
        f"{total:,} hostile inputs (of each kind, "
        f"{', '.join(f'{count:,} {name}' for name, count in COUNTS.items())}): errors that are "
        "none of tagmill's own",
        faults,
        detail="; ".join(
            f"{name}: {', '.join(f'{count:,} {end}' for end, count in one.ends.most_common())}"
            for name, one in found.items()
        ),
    )
    yield _row("processes that died of one", crashes)
    (slowest_s, slow), slow_kind = max((one.slowest, name) for name, one in found.items())
    yield _row(
        f"inputs that took longer than {LONGEST_S:.0f} s",
        hangs,
        detail=f"the slowest took {slowest_s:.2f} s ({slow_kind} {slow})",
    )
    (growth, large), large_kind = max((one.largest, name) for name, one in found.items())
    spikes = [
        f"{name} {one.largest[1]}" for name, one in found.items() if one.largest[0] > MOST_GROWTH
    ]
    yield _row(
        "kinds with an input for which resident memory grew by more than "
        f"{MOST_GROWTH // MIB:,} MiB, {BYTES_PER_PIXEL} bytes for each pixel that may be",
        spikes,
        detail=f"the largest growth was {growth / MIB:,.0f} MiB ({large_kind} {large}); "
        f"address space was limited to {MOST_ADDRESSES // MIB:,} MiB more than at the start",
    )


def _row(what: str, bad: list[str], *, detail: str = "") -> Row:
    shown = "; ".join(bad[:5])
    return Row(
        what=what,
        figure=f"{len(bad):,}",
        wanted="0",
        holds=not bad,
        detail="; ".join(part for part in (shown, detail) if part),
    )


def _fed(ground: Ground, name: str, count: int) -> Found:
    found, n = Found(), 0
    while n < count:
        n = _fed_from(ground, name, n, count, found)
    return found


def _fed_from(ground: Ground, name: str, start: int, count: int, found: Found) -> int:
    """Feed from an input on; the number of the first that was not fed."""
    command = [sys.executable, "-m", "bench.fuzz", name, str(start), str(count)]
    with subprocess.Popen(
        [*command, str(ground.photos)],
        env=ground.environment(f"fuzz-{name}", models=ground.work / "none"),
        bufsize=0,  # a line that waited in a buffer would be taken for a hang
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders write there what they think of a file
    ) as process:
        assert process.stdout is not None
        n, longest_s, line = start - 1, START_S, b""
        while select.select([process.stdout], [], [], longest_s)[0]:
            line = process.stdout.readline()
            if not line:
                break
            end = json.loads(line)
            n, longest_s = end["n"], LONGEST_S
            if n >= start:
                _noted(found, end)
        else:
            process.kill()
            found.hangs.append(n + 1)
            return n + 2
        code = process.wait()
    if code == 0:
        return count
    found.crashes.append((n + 1, code))
    return n + 2


def _noted(found: Found, end: dict[str, object]) -> None:
    n = int(str(end["n"]))
    if "fault" in end:
        found.faults.append((n, str(end["fault"])))
    else:
        found.ends[str(end["outcome"])] += 1
    found.slowest = max(found.slowest, (float(str(end["seconds"])), n))
    found.largest = max(found.largest, (int(str(end["growth"])), n))


def _feed(name: str, start: int, count: int, photos: Path) -> None:
    """Feed inputs in this process, a line of JSON about each."""
    from bench.hostile_inputs import kinds, seeded

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="tagmill-fuzz-") as folder:
        kind = kinds(sorted(photos.glob("*.jpg")), Path(folder))[name]
        had = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (had + MOST_ADDRESSES,) * 2)
        _say(n=start - 1)
        for n in range(start, count):
            made = kind.make(seeded(name, n))
            before, began = _peak_from_now(), time.perf_counter()
            try:
                end = {"outcome": kind.feed(made)}
            except Exception as error:  # noqa: BLE001  # it is what is looked for
                end = {"fault": f"{type(error).__name__}: {error}"[:200]}
            seconds = time.perf_counter() - began
            _say(n=n, seconds=seconds, growth=max(0, _peak() - before), **end)


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def _peak_from_now() -> int:
    """Forget the peak of resident memory so far, where the system can: what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return int(psutil.Process().memory_info().rss)


def _peak() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


if __name__ == "__main__":
    _feed(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    os._exit(0)
