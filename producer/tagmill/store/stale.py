"""What an older version of a model labelled: read from outcomes, least sure first."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from typing import IO

from sqlalchemy import Select, and_, func, select, true, tuple_, union_all

from tagmill.contract import Status
from tagmill.store.database import Database
from tagmill.store.outcomes import stands_for
from tagmill.store.schema import jobs, outcomes, skipped

_ROWS = 5_000  # of one answer of the database


class Stale:
    """The labels of older versions in a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def items(
        self,
        source: str,
        *,
        name: str,
        before: int,
        until: float | None = None,
        after: str | None = None,
        skip: int = 0,
    ) -> Iterator[tuple[str, str]]:
        """The items of a source that older versions of a model labelled, lowest score first.

        They are sorted once and kept in a file, for whoever lists them is in no hurry, and no
        transaction waits for that.

        Args:
            source: of the jobs that labelled them.
            name: of the model.
            before: the version that they are older than.
            until: labels that were made later do not count; seconds since the epoch.
            after: the URI of the item to go on behind.
            skip: how many to leave out where that one is not among them any more.

        Yields:
            The URI of each and the version of it that was labelled last.
        """
        job_ids = self._jobs(source, name, before)
        if not job_ids:
            return
        wanted = _ranked(job_ids, until)
        with tempfile.TemporaryFile("w+", encoding="ascii") as file:
            self._write(file, wanted, after, skip)
            file.seek(0)
            for line in file:
                uri, version = json.loads(line)
                yield uri, version

    def _write(
        self, file: IO[str], found: Select[tuple[str, str, float]], after: str | None, skip: int
    ) -> None:
        ranked = found.subquery()
        wanted = select(ranked.c.uri, ranked.c.version).order_by(ranked.c.top_score, ranked.c.uri)
        with self._database.read() as connection:
            if after is not None:
                place = select(ranked.c.top_score).where(ranked.c.uri == after)
                score = connection.scalar(place)
                behind = tuple_(ranked.c.top_score, ranked.c.uri) > (score, after)
                wanted = wanted.offset(skip) if score is None else wanted.where(behind)
            rows = connection.execute(wanted, execution_options={"yield_per": _ROWS})
            file.writelines(f"{json.dumps([row.uri, row.version])}\n" for row in rows)

    def is_known(self, source: str, *, name: str) -> bool:
        """True of a source that any version of a model was to label."""
        return bool(self._jobs(source, name))

    def _jobs(self, source: str, name: str, before: float = math.inf) -> list[str]:
        wanted = select(jobs.c.id, jobs.c.model).where(
            jobs.c.source == source, jobs.c.model.startswith(f"{name}@", autoescape=True)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [row.id for row in rows if int(row.model.rpartition("@")[2]) < before]


def _ranked(job_ids: list[str], until: float | None) -> Select[tuple[str, str, float]]:
    """The newest label of each item, with its score."""
    columns = (
        outcomes.c.uri,
        outcomes.c.version,
        outcomes.c.top_score,
        outcomes.c.labelled_at,
    )
    counts = and_(
        outcomes.c.status == Status.OK,
        true() if until is None else outcomes.c.labelled_at <= until,
    )
    own = select(*columns).where(outcomes.c.job_id.in_(job_ids), counts)
    taken_over = (
        select(*columns).join(skipped, stands_for()).where(skipped.c.job_id.in_(job_ids), counts)
    )
    all_of_them = union_all(own, taken_over).subquery()
    newest_first = func.row_number().over(
        partition_by=all_of_them.c.uri, order_by=all_of_them.c.labelled_at.desc()
    )
    ranked = select(all_of_them, newest_first.label("rank")).subquery()
    return select(ranked.c.uri, ranked.c.version, ranked.c.top_score).where(ranked.c.rank == 1)
