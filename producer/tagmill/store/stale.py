"""What an older version of a model labelled: read from outcomes, least sure first."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import func, select, tuple_, union_all

from tagmill.contract import Status
from tagmill.store.database import Database
from tagmill.store.outcomes import stands_for
from tagmill.store.schema import jobs, outcomes, skipped

_PAGE = 50_000  # each is a sort of all that there is


class Stale:
    """The labels of older versions in a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def items(self, source: str, *, name: str, before: int) -> Iterator[tuple[str, str]]:
        """The items of a source that older versions of a model labelled, lowest score first.

        Args:
            source: of the jobs that labelled them.
            name: of the model.
            before: the version that they are older than.

        Yields:
            The URI of each and the version of it that was labelled last.
        """
        job_ids = self._jobs(source, name, before)
        columns = (
            outcomes.c.uri,
            outcomes.c.version,
            outcomes.c.top_score,
            outcomes.c.labelled_at,
        )
        own = select(*columns).where(outcomes.c.job_id.in_(job_ids), outcomes.c.status == Status.OK)
        taken_over = (
            select(*columns)
            .join(skipped, stands_for())
            .where(skipped.c.job_id.in_(job_ids), outcomes.c.status == Status.OK)
        )
        all_of_them = union_all(own, taken_over).subquery()
        newest_first = func.row_number().over(
            partition_by=all_of_them.c.uri, order_by=all_of_them.c.labelled_at.desc()
        )
        ranked = select(all_of_them, newest_first.label("rank")).subquery()
        place = tuple_(ranked.c.top_score, ranked.c.uri)
        page = (
            select(ranked.c.uri, ranked.c.version, ranked.c.top_score)
            .where(ranked.c.rank == 1)
            .order_by(ranked.c.top_score, ranked.c.uri)
            .limit(_PAGE)
        )
        after = page
        while job_ids:
            with self._database.read() as connection:
                rows = connection.execute(after).all()
            for row in rows:
                yield row.uri, row.version
            if len(rows) < _PAGE:
                return
            after = page.where(place > (rows[-1].top_score, rows[-1].uri))

    def _jobs(self, source: str, name: str, before: int) -> list[str]:
        wanted = select(jobs.c.id, jobs.c.model).where(
            jobs.c.source == source, jobs.c.model.startswith(f"{name}@", autoescape=True)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return [row.id for row in rows if int(row.model.rpartition("@")[2]) < before]
