"""Whether a store holds what the model of its ledger says, and what is so of every ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Table, select

from support.ledger_model import JobModel
from tagmill.contract import ChunkState, ErrorCode, JobState, Status, load_items
from tagmill.store import Store
from tagmill.store.schema import chunks, jobs, outcomes, skipped


class LedgerCheck:
    """Looks at a store again and again, so that it sees what must never go back."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._attempts: Counter[tuple[str, int]] = Counter()

    def compare(self, models: Sequence[JobModel]) -> None:
        """Fail where a job is not as its model."""
        ids = [model.id for model in models]

        def rows_of(table: Table, key: str, *order: str) -> Sequence[Row[Any]]:
            wanted = select(table).where(table.c[key].in_(ids))
            return connection.execute(wanted.order_by(*(table.c[name] for name in order))).all()

        with self._store.database.read() as connection:
            job_rows = rows_of(jobs, "id")
            chunk_rows = rows_of(chunks, "job_id", "job_id", "seq")
            outcome_rows = rows_of(outcomes, "job_id")
            skipped_rows = rows_of(skipped, "job_id")
        for model in models:
            (job,) = [row for row in job_rows if row.id == model.id]
            mine = [row for row in chunk_rows if row.job_id == model.id]
            ended = {row.n: row for row in outcome_rows if row.job_id == model.id}
            taken_over = {row.n for row in skipped_rows if row.job_id == model.id}
            _check_places(model, mine, set(ended), taken_over)
            _check_outcomes(model, ended)
            _check_chunks(model, mine)
            _check_job(model, job, mine, taken_over)
            for row in mine:
                assert row.attempt >= self._attempts[row.job_id, row.seq], "an attempt fell"
                self._attempts[row.job_id, row.seq] = row.attempt


def _check_places(
    model: JobModel, rows: Sequence[Row[Any]], ended: set[int], taken_over: set[int]
) -> None:
    """Every item listed has an outcome, or is in one chunk that is not done; never both."""
    unfinished = [row for row in rows if row.state != ChunkState.DONE]
    waiting = Counter(item.n for row in unfinished for item in load_items(row._mapping["items"]))
    places = waiting + Counter(ended - model.again) + Counter(taken_over)
    assert places == Counter(model.uris.keys()), "an item is in no place, or in two"
    assert model.again <= ended, "an outcome is gone before it is replaced"


def _check_outcomes(model: JobModel, ended: dict[int, Row[Any]]) -> None:
    found = {n: ErrorCode(row.error) if row.error else None for n, row in ended.items()}
    assert found == model.ended
    for n, row in ended.items():
        assert row.uri == model.uris[n], "an item has another's outcome"
        assert (row.status == Status.OK) == (row.error is None) == (row.labels != "[]")
    for n in ended.keys() - model.again:
        assert model.is_rightly_recorded(n), f"item {n} is {ended[n].error} too soon"


def _check_chunks(model: JobModel, rows: Sequence[Row[Any]]) -> None:
    assert [row.seq for row in rows] == list(range(len(model.chunks)))
    for row, chunk in zip(rows, model.chunks, strict=True):
        held = load_items(row._mapping["items"])
        assert [item.uri for item in held] == [model.uris[item.n] for item in held]
        assert tuple(item.n for item in held) == chunk.items
        assert (row.state, row.attempt, row.size) == (chunk.state, chunk.attempt, len(chunk.items))
        if chunk.state != ChunkState.DONE:
            assert (row.losses, row.was_put_off) == (chunk.losses, chunk.was_put_off)


def _check_job(
    model: JobModel, job: Row[Any], rows: Sequence[Row[Any]], taken_over: set[int]
) -> None:
    """The counters add up, and a job is done exactly when it is listed and nothing is pending."""
    pending = sum(row.state != ChunkState.DONE for row in rows)
    assert (job.chunks, job.pending) == (len(rows), pending)
    assert (job.listed, job.skipped) == (len(model.uris), len(taken_over))
    assert (job.ok, job.failed) == (model.ok, model.failed)
    assert job.listed == job.skipped + job.ok + job.failed + len(model.open_items)
    assert (job.state, job.cursor) == (model.state, model.cursor)
    if job.state in (JobState.RUNNING, JobState.DONE):
        assert (job.state == JobState.DONE) == (pending == 0)
    assert (job.finished_at is not None) == model.state.is_finished
    assert (job.breaker, job.paused is not None) == (model.breaker, model.is_paused)
