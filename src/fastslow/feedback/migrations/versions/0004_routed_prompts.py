"""Prompts whose domain was not named, but told by what they look like."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "prompts", sa.Column("routed", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_index(
        "ix_prompts_labelled",
        "prompts",
        ["domain", "id"],
        sqlite_where=sa.text("routed = 0"),
        postgresql_where=sa.text("NOT routed"),
    )
    op.create_index(
        "ix_prompts_routed",
        "prompts",
        ["id"],
        sqlite_where=sa.text("routed = 1"),
        postgresql_where=sa.text("routed"),
    )
