"""The first schema: jobs, chunks, outcomes, skipped."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("model", sa.String(80), nullable=False),
        sa.Column("top_k", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cursor", sa.Text),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("listed", "skipped", "ok", "failed", "chunks", "pending")
        ),
        sa.Column("fresh_since", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
    )
    op.create_index("jobs_by_age", "jobs", ["created_at"])
    op.create_table(
        "chunks",
        _job_id(),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("lane", sa.String(120)),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("committed_at", sa.Double),
        sa.Column("summary", sa.Text),
        sa.Column("items", sa.Text, nullable=False),
    )
    op.create_index("chunks_by_state", "chunks", ["job_id", "state"])
    op.create_index("chunks_by_commit", "chunks", ["job_id", "committed_at"])
    op.create_table(
        "outcomes",
        _job_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("uri_hash", sa.BigInteger, nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("error", sa.String(32)),
        sa.Column("message", sa.Text),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("top_id", sa.Text),
        sa.Column("top_score", sa.Double),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("labelled_at", sa.Double, nullable=False),
    )
    op.create_index("outcomes_by_uri", "outcomes", ["uri_hash"])
    op.create_table(
        "skipped",
        _job_id(),
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("outcome_job_id", sa.String(32), nullable=False),
        sa.Column("outcome_n", sa.BigInteger, nullable=False),
    )


def _job_id() -> sa.Column[str]:
    return sa.Column(
        "job_id", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
    )
