"""The breaker: a job whose first items nearly all fail pauses, before the rest fails likewise."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from tagmill.contract import NEARLY_ALL_FAILED, UNFINISHED, Status
from tagmill.store.schema import jobs, outcomes

LEAST_FAILED = 0.9
"""Share of the outcomes that are failures where nearly all are."""

COMMONEST = 3
"""Errors that the reason names."""


LOOKED_AT = (
    jobs.c.id,
    jobs.c.state,
    jobs.c.ok,
    jobs.c.failed,
    jobs.c.skipped,
    jobs.c.breaker,
    jobs.c.paused,
)
"""What is to be known of a job."""


def look(connection: Connection, job: Row[tuple[Any, ...]]) -> None:
    """Look at a job once, when it has as many outcomes as its breaker says.

    Args:
        connection: in the transaction that counted the outcomes.
        job: as it is by now, with `LOOKED_AT`.
    """
    done = job.ok + job.failed
    if job.breaker is None or done < job.breaker:
        return
    values: dict[str, str | None] = {"breaker": None}
    # An item that is skipped has its outcome: the job makes sense.
    nearly_all = job.failed >= LEAST_FAILED * (done + job.skipped)
    if nearly_all and job.paused is None and job.state in UNFINISHED:
        why = "; ".join(_commonest(connection, job.id))
        values["paused"] = f"{NEARLY_ALL_FAILED}, {job.failed:,} of the first {done:,}: {why}"
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values))


def _commonest(connection: Connection, job_id: str) -> list[str]:
    count = func.count().label("count")
    wanted = (
        select(outcomes.c.error, count, func.min(outcomes.c.message).label("message"))
        .where(outcomes.c.job_id == job_id, outcomes.c.status == Status.FAILED)
        .group_by(outcomes.c.error)
        .order_by(count.desc(), outcomes.c.error)
        .limit(COMMONEST)
    )
    return [f"{row.count:,} × {row.error} ({row.message})" for row in connection.execute(wanted)]
