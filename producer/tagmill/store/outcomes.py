"""What became of the items: looking outcomes up, counting them, and reading them all."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Insert,
    Row,
    Select,
    Table,
    and_,
    func,
    select,
    union_all,
)

from tagmill.contract import (
    SETTLED_BY_CONTENT,
    ErrorCode,
    Label,
    Outcome,
    Status,
    dump_labels,
    load_labels,
)
from tagmill.store.database import Database
from tagmill.store.schema import epoch_now, jobs, outcomes, skipped, uri_hash

_PAGE = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Where the outcome of an unchanged item stands."""

    job: str
    n: int
    failed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One row of results: an item of a job and its outcome.

    Attributes:
        model: the version that said it, as ``name@number``.
        labelled_at: seconds since the epoch.
    """

    job: str
    n: int
    uri: str
    version: str
    status: Status
    error: ErrorCode | None
    message: str | None
    width: int | None
    height: int | None
    model: str
    labels: tuple[Label, ...]
    labelled_at: float


class Outcomes:
    """The outcomes of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def any_of(self, *, model: str, top_k: int) -> bool:
        """True where some item has an outcome by that model version and top-k."""
        wanted = (
            select(jobs.c.id)
            .where(jobs.c.model == model, jobs.c.top_k == top_k, jobs.c.ok + jobs.c.failed > 0)
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.scalar(wanted) is not None

    def known(
        self,
        versions: Mapping[str, str],
        *,
        model: str,
        top_k: int,
        since: float,
        tried_by: str = "",
    ) -> dict[str, Known]:
        """Which items have an outcome that still stands: same version, same model, same top-k.

        A failure stands where it lies in the bytes; others (no permission, say) do not.

        Args:
            versions: of the items asked for, by URI. An empty version is never known.
            model: the model version, as ``name@number``.
            top_k: labels kept per item.
            since: outcomes older than that (seconds since the epoch) do not count.
            tried_by: a job whose every failure stands, whatever it lies in.
        """
        wanted = (
            select(
                outcomes.c.uri,
                outcomes.c.version,
                outcomes.c.job_id,
                outcomes.c.n,
                outcomes.c.error,
            )
            .join(jobs, jobs.c.id == outcomes.c.job_id)
            .where(outcomes.c.uri_hash.in_([uri_hash(uri) for uri in versions]))
            .where(jobs.c.model == model, jobs.c.top_k == top_k, outcomes.c.labelled_at >= since)
            .order_by(outcomes.c.labelled_at)  # of several the newest stays, below
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        return {
            row.uri: Known(job=row.job_id, n=row.n, failed=row.error is not None)
            for row in rows
            if row.version
            and versions.get(row.uri) == row.version
            and (row.error is None or row.error in SETTLED_BY_CONTENT or row.job_id == tried_by)
        }

    def results(self, job_id: str) -> Iterator[Result]:
        """Every item of a job that has an outcome, in listing order, in constant memory.

        Items that the job skipped come with the outcome that an earlier job had found.
        """
        own = self._pages(
            select(outcomes, outcomes.c.n.label("item_n"), jobs.c.model)
            .join(jobs, jobs.c.id == outcomes.c.job_id)
            .where(outcomes.c.job_id == job_id),
            outcomes.c.n,
            job_id,
        )
        taken_over = self._pages(
            select(outcomes, skipped.c.n.label("item_n"), jobs.c.model)
            .join(skipped, stands_for())
            .join(jobs, jobs.c.id == outcomes.c.job_id)
            .where(skipped.c.job_id == job_id),
            skipped.c.n,
            job_id,
        )
        return heapq.merge(own, taken_over, key=lambda result: result.n)

    def failures(self, job_id: str) -> dict[ErrorCode, int]:
        """How often each error code occurs among a job's items, commonest first.

        Failures that it took over from earlier jobs count too.
        """
        own = select(outcomes.c.error).where(
            outcomes.c.job_id == job_id, outcomes.c.status == Status.FAILED
        )
        others = (
            select(outcomes.c.error)
            .join(skipped, stands_for())
            .where(skipped.c.job_id == job_id, outcomes.c.status == Status.FAILED)
        )
        both = union_all(own, others).subquery()
        wanted = (
            select(both.c.error, func.count())
            .group_by(both.c.error)
            .order_by(func.count().desc(), both.c.error)
        )
        with self._database.read() as connection:
            return {ErrorCode(row[0]): row[1] for row in connection.execute(wanted)}

    def _pages(
        self, wanted: Select[tuple[Any, ...]], number: Column[int], job_id: str
    ) -> Iterator[Result]:
        last = -1
        while True:
            page = wanted.where(number > last).order_by(number).limit(_PAGE)
            with self._database.read() as connection:
                rows = connection.execute(page).all()
            for row in rows:
                yield _result(row, job_id)
            if len(rows) < _PAGE:
                return
            last = rows[-1].item_n


def _result(row: Row[tuple[Any, ...]], job_id: str) -> Result:
    values = row._mapping
    return Result(
        job=job_id,
        n=values["item_n"],
        uri=values["uri"],
        version=values["version"],
        status=Status(values["status"]),
        error=ErrorCode(values["error"]) if values["error"] else None,
        message=values["message"],
        width=values["width"],
        height=values["height"],
        model=values["model"],
        labels=load_labels(values["labels"]),
        labelled_at=values["labelled_at"],
    )


def stands_for() -> ColumnElement[bool]:
    """Joins an item that a job skipped to the outcome that stands for it."""
    return and_(skipped.c.outcome_job_id == outcomes.c.job_id, skipped.c.outcome_n == outcomes.c.n)


def upsert(connection: Connection, job_id: str, found: Sequence[Outcome]) -> None:
    """Write the outcomes of a job's items in a transaction; what they had before is replaced."""
    rows = [
        {
            "job_id": job_id,
            "n": outcome.n,
            "uri_hash": uri_hash(outcome.uri),
            "uri": outcome.uri,
            "version": outcome.version,
            "status": outcome.status,
            "error": outcome.error,
            "message": outcome.message,
            "width": outcome.width,
            "height": outcome.height,
            "top_id": outcome.labels[0].id if outcome.labels else None,
            "top_score": outcome.labels[0].score if outcome.labels else None,
            "labels": dump_labels(outcome.labels),
        }
        for outcome in found
    ]
    insert, new = insert_for(connection, outcomes, rows[0])
    statement: Insert = insert.on_conflict_do_update(
        index_elements=["job_id", "n"], set_={**new, "labelled_at": epoch_now()}
    )
    connection.execute(statement.values(labelled_at=epoch_now()), rows)


def insert_for(
    connection: Connection, table: Table, names: Iterable[str]
) -> tuple[Any, dict[str, Any]]:
    """An INSERT that knows ON CONFLICT, and the columns' values of the row that it meets.

    Both databases have it; SQLAlchemy has it in the dialect of each, under no common type.
    """
    insert: Any
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # loads every driver there is for it

        insert = postgresql.insert(table)
    else:
        from sqlalchemy.dialects import sqlite

        insert = sqlite.insert(table)
    return insert, {name: insert.excluded[name] for name in names}
