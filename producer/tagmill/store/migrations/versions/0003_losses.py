"""Jobs that pause when nearly all fails, chunks that are put off, and the release of a lane."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("breaker", sa.Integer))
    op.add_column(
        "chunks",
        sa.Column("was_put_off", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column("lanes", sa.Column("release", sa.String(40)))
