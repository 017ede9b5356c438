"""Corrections: what somebody says that an image shows."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "corrections",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("uri_sha", sa.String(64), primary_key=True),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("corrected_at", sa.Double, nullable=False),
    )
