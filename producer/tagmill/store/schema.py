"""The tables of the store as this release writes them. `migrations/` brings a database here.

``jobs`` and ``chunks`` are the ledger; ``outcomes`` holds one row per labelled item of a job;
``skipped`` points, for items that a job did not label again, at the outcome that stands;
``lanes`` is where lanes say that they are alive. ``trainings`` are the train queue's truth,
``aliases`` say which version of a model is meant, ``alias_moves`` which one was, ``corrections``
what somebody says that an image shows, by model and the SHA-256 of the URI, and ``schedules`` what
becomes a training or a job by itself. ``trainings.losses_here`` counts those in a row that
came no further than ``lost_stage`` and ``lost_done``, where the lane before was lost.
``chunks.lease_until`` is when a claim ends, of a queued chunk when it is named again, and of one
that is put off when it is queued. ``jobs.breaker`` is the number of outcomes at which a job pauses
if nearly all of them are failures, ``NULL`` once it was looked at. ``jobs.lister_until`` is when a
listing that lanes do is named again, ``NULL`` where a producer lists.
Times are seconds since the epoch by the database's own clock, so that machines whose clocks
disagree agree on leases.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("source", Text, nullable=False),
    Column("model", String(80), nullable=False),
    Column("top_k", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("cursor", Text),
    Column("listed", BigInteger, nullable=False, default=0),
    Column("skipped", BigInteger, nullable=False, default=0),
    Column("ok", BigInteger, nullable=False, default=0),
    Column("failed", BigInteger, nullable=False, default=0),
    Column("chunks", BigInteger, nullable=False, default=0),
    Column("pending", BigInteger, nullable=False, default=0),
    Column("fresh_since", Double, nullable=False, default=0.0),
    Column("include", Text, nullable=False, server_default="[]"),
    Column("exclude", Text, nullable=False, server_default="[]"),
    Column("priority", String(8), nullable=False, server_default="normal"),
    Column("paused", Text),
    Column("follow_s", Double),
    Column("breaker", Integer),
    Column("stale", Boolean, nullable=False, default=False, server_default=false()),
    Column("lister_until", Double),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Index("jobs_by_age", "created_at"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),
    Column("was_put_off", Boolean, nullable=False, default=False, server_default=false()),
    Column("lease_until", Double),
    Column("lane", String(120)),
    Column("size", Integer, nullable=False),
    Column("committed_at", Double),
    Column("summary", Text),
    Column("items", Text, nullable=False),  # last: it is long, and what precedes it is read alone
    Index("chunks_by_state", "job_id", "state"),
    Index("chunks_by_commit", "job_id", "committed_at"),
    Index("chunks_by_lease", "state", "lease_until"),
)

_only_failed: Any = {
    f"{dialect}_where": text("status = 'failed'") for dialect in ("postgresql", "sqlite")
}

outcomes = Table(
    "outcomes",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("uri_hash", BigInteger, nullable=False),
    Column("uri", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("status", String(8), nullable=False),
    Column("error", String(32)),
    Column("message", Text),
    Column("width", Integer),
    Column("height", Integer),
    Column("top_id", Text),
    Column("top_score", Double),
    Column("labels", Text, nullable=False),
    Column("labelled_at", Double, nullable=False),
    Index("outcomes_by_uri", "uri_hash"),
    Index("outcomes_failed", "job_id", **_only_failed),
)

skipped = Table(
    "skipped",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("outcome_job_id", String(32), nullable=False),
    Column("outcome_n", BigInteger, nullable=False),
)

lanes = Table(
    "lanes",
    metadata,
    Column("name", String(120), primary_key=True),
    Column("pid", Integer, nullable=False),
    Column("device", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("job_id", String(32)),
    Column("seq", BigInteger),
    Column("model", String(80)),
    Column("release", String(40)),
    Column("done", BigInteger, nullable=False),
    Column("rate", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

_only_running: Any = {
    f"{dialect}_where": text("state = 'running'") for dialect in ("postgresql", "sqlite")
}

trainings = Table(
    "trainings",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("request", Text, nullable=False),
    Column("schedule", String(64)),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),
    Column("losses_here", Integer, nullable=False, default=0),
    Column("lost_stage", String(80)),
    Column("lost_done", BigInteger),
    Column("lease_until", Double),
    Column("lane", String(120)),
    Column("stage", String(80)),
    Column("done", BigInteger, nullable=False, default=0),
    Column("total", BigInteger, nullable=False, default=0),
    Column("fingerprint", String(64)),
    Column("version", Integer),
    Column("promoted", Boolean, nullable=False, default=False),
    Column("said", Text),
    Column("result", Text),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Index("trainings_by_age", "created_at"),
    Index("trainings_running", "name", unique=True, **_only_running),  # one at a time of a model
)

aliases = Table(
    "aliases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("alias", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("moves", Integer, nullable=False),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("alias", String(32), primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("before", Integer),
    Column("why", Text, nullable=False),
    Column("undone", Boolean, nullable=False, default=False),
    Column("moved_at", Double, nullable=False),
)

corrections = Table(
    "corrections",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("uri_sha", String(64), primary_key=True),
    Column("uri", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("corrected_at", Double, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("cron", String(120), nullable=False),
    Column("zone", String(64), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("request", Text, nullable=False),
    Column("paused", Boolean, nullable=False, default=False),
    Column("next_at", Double, nullable=False),
    Column("last_at", Double),
    Column("last_id", String(32)),
    Column("last_said", Text),
    Column("created_at", Double, nullable=False),
)


def uri_hash(uri: str) -> int:
    """A signed 64-bit hash of a URI: what the index over outcomes holds instead of long texts."""
    return int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest(), "big", signed=True)


class epoch_now(FunctionElement[float]):  # noqa: N801  # reads as the SQL function that it is
    """The database's clock, as seconds since the epoch."""

    type = Double()
    inherit_cache = True


@compiles(epoch_now, "sqlite")
def _epoch_now_sqlite(*_: Any, **__: Any) -> str:
    # Older SQLite has no unixepoch('subsec'); 2440587.5 is the Julian day of the epoch.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(epoch_now, "postgresql")
def _epoch_now_postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"
