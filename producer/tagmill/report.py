"""The report of a job: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import heapq
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from tagmill.contract import ChunkSummary, ChunkTimings
from tagmill.errors import UsageError
from tagmill.export import replacing
from tagmill.sources import readable
from tagmill.store import Job, Result, Store
from tagmill.thumbnails import Thumbnails
from tagmill.version import __version__

GENERATOR = "tagmill"
SHOWN_LABELS = 30
SHOWN_TILES = 96
SHOWN_UNSURE = 16
SHOWN_FAILURES = 8
_PER_LABEL = 4

_PARTS = {
    "fetch_s": "fetch",
    "decode_s": "decode",
    "predict_s": "predict",
    "commit_s": "commit",
    "waiting_s": "waiting",
}


@dataclass(slots=True)
class Gathered:
    """What one pass over the results keeps, however many there are."""

    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    failed: dict[str, list[Result]] = field(default_factory=lambda: defaultdict(list))
    first: list[Result] = field(default_factory=list)
    best: dict[str, list[tuple[float, int, Result]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    unsure: list[tuple[float, int, Result]] = field(default_factory=list)


def gather(results: Iterable[Result]) -> Gathered:
    """Count results and pick the ones to show: of each label the surest, and the least sure."""
    kept = Gathered()
    for result in results:
        if result.error is not None:
            kept.failures[result.error] += 1
            if len(kept.failed[result.error]) < SHOWN_FAILURES:
                kept.failed[result.error].append(result)
            continue
        top = result.labels[0]
        kept.labels[top.name] += 1
        if len(kept.first) <= SHOWN_TILES:
            kept.first.append(result)
        _keep(kept.best[top.name], _PER_LABEL, (top.score, -result.n, result))
        _keep(kept.unsure, SHOWN_UNSURE, (-top.score, -result.n, result))
    return kept


def _keep(
    heap: list[tuple[float, int, Result]], most: int, entry: tuple[float, int, Result]
) -> None:
    """Keep the largest entries; the second field is unique, so results are never compared."""
    if len(heap) < most:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def tiles(kept: Gathered) -> Sequence[Result]:
    """The results of the contact sheet: all of a small job, else the surest of common labels."""
    if len(kept.first) <= SHOWN_TILES:
        return kept.first
    queues = [sorted(kept.best[name], reverse=True) for name, _ in kept.labels.most_common()]
    chosen: list[Result] = []
    for rank in range(_PER_LABEL):
        chosen += [queue[rank][2] for queue in queues if len(queue) > rank]
        if len(chosen) >= SHOWN_TILES:
            break
    order = {name: i for i, (name, _) in enumerate(kept.labels.most_common())}
    return sorted(chosen[:SHOWN_TILES], key=lambda result: order[result.labels[0].name])


def time_spent(summaries: Iterable[ChunkSummary]) -> list[tuple[str, float]]:
    """Seconds that lanes spent, by part, over all chunks."""
    totals = dict.fromkeys(_PARTS, 0.0)
    for summary in summaries:
        for part in fields(ChunkTimings):
            totals[part.name] += getattr(summary.timings, part.name)
    return [(_PARTS[name], seconds) for name, seconds in totals.items()]


def check_replaceable(path: Path) -> None:
    """Make sure that a report may be written there.

    Raises:
        UsageError: if a file of that name is there that is no report of ours.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    if f'name="generator" content="{GENERATOR}'.encode() not in head:
        raise UsageError(f"{path} is there and is no report of tagmill: name another with --report")


def write_report(
    path: Path, *, store: Store, job: Job, thumbnails: Thumbnails, since: float, took_s: float
) -> None:
    """Write the report of a job.

    Args:
        path: where to.
        store: where the job lives.
        job: done.
        thumbnails: of the images to show.
        since: when the run began that is reported, by the store's clock.
        took_s: seconds that it took.

    Raises:
        StoreError: if the store refuses.
        StoreFull: if there is no room left for the file.
    """
    kept = gather(store.outcomes.results(job.id))
    shown = tiles(kept)
    unsure = [entry[2] for entry in sorted(kept.unsure, reverse=True)]
    if len(kept.first) <= SHOWN_TILES:
        unsure = []
    wanted = {(result.uri, result.version): b"" for result in [*shown, *unsure]}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        pictures = dict(
            zip(wanted, pool.map(lambda key: thumbnails.get(*key), wanted), strict=True)
        )

    def tile(result: Result) -> dict[str, object]:
        picture = pictures[result.uri, result.version]
        return {
            "name": readable(result.uri).rpartition("/")[2],
            "path": readable(result.uri),
            "labels": result.labels,
            "picture": base64.b64encode(picture).decode() if picture else None,
        }

    summaries = [summary for _, _, summary in store.jobs.summaries(job.id, since=since)]
    done = sum(sum(s.seen.values()) + sum(s.failures.values()) for s in summaries)
    spent = time_spent(summaries)
    environment = Environment(
        loader=PackageLoader("tagmill"), autoescape=select_autoescape(default=True)
    )
    html = environment.get_template("report.html.j2").render(
        version=__version__,
        job=job,
        source=readable(job.source),
        labelled=sum(kept.labels.values()),
        failed=sum(kept.failures.values()),
        seconds=took_s,
        rate=done / took_s,
        lanes=len({summary.lane for summary in summaries}),
        spent=spent,
        spent_in_all=sum(part for _, part in spent),
        labels=kept.labels.most_common(SHOWN_LABELS),
        label_count=len(kept.labels),
        tiles=[tile(result) for result in shown],
        unsure=[tile(result) for result in unsure],
        failures=[
            {
                "code": code,
                "count": count,
                "examples": [(readable(r.uri), r.message) for r in kept.failed[code]],
            }
            for code, count in kept.failures.most_common()
        ],
        when=datetime.fromtimestamp(job.finished_at or job.created_at, UTC),
    )
    with replacing(path) as output:
        output.write(html.encode("utf-8", "replace"))
