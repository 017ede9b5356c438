"""Trainings, aliases and their moves, schedules; jobs that lanes list, and those of old labels."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("lister_until", sa.Double))
    op.create_table(
        "trainings",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("schedule", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("losses_here", sa.Integer, nullable=False),
        sa.Column("lost_stage", sa.String(80)),
        sa.Column("lost_done", sa.BigInteger),
        sa.Column("lease_until", sa.Double),
        sa.Column("lane", sa.String(120)),
        sa.Column("stage", sa.String(80)),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("version", sa.Integer),
        sa.Column("promoted", sa.Boolean, nullable=False),
        sa.Column("said", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
    )
    op.create_index("trainings_by_age", "trainings", ["created_at"])
    only_running = sa.text("state = 'running'")
    op.create_index(
        "trainings_running",
        "trainings",
        ["name"],
        unique=True,
        postgresql_where=only_running,
        sqlite_where=only_running,
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("alias", sa.String(32), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("moves", sa.Integer, nullable=False),
    )
    op.create_table(
        "alias_moves",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("alias", sa.String(32), primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("before", sa.Integer),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("undone", sa.Boolean, nullable=False),
        sa.Column("moved_at", sa.Double, nullable=False),
    )
    op.create_table(
        "schedules",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("cron", sa.String(120), nullable=False),
        sa.Column("zone", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double),
        sa.Column("last_id", sa.String(32)),
        sa.Column("last_said", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
    )
