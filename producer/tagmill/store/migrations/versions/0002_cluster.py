"""Jobs over many machines: selection, priority, pause, follow; lanes; what a tick looks for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("include", "exclude"):
        op.add_column("jobs", sa.Column(name, sa.Text, nullable=False, server_default="[]"))
    op.add_column(
        "jobs", sa.Column("priority", sa.String(8), nullable=False, server_default="normal")
    )
    op.add_column("jobs", sa.Column("paused", sa.Text))
    op.add_column("jobs", sa.Column("follow_s", sa.Double))
    op.create_index("chunks_by_lease", "chunks", ["state", "lease_until"])
    only_failed = sa.text("status = 'failed'")
    op.create_index(
        "outcomes_failed",
        "outcomes",
        ["job_id"],
        postgresql_where=only_failed,
        sqlite_where=only_failed,
    )
    op.create_table(
        "lanes",
        sa.Column("name", sa.String(120), primary_key=True),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("job_id", sa.String(32)),
        sa.Column("seq", sa.BigInteger),
        sa.Column("model", sa.String(80)),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("rate", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
    )
