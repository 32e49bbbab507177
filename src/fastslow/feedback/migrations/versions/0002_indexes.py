"""Indexes: of the votes that were taken back after their admission, of the updates of a row,
of the first prompts of clusters."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    where = sa.text("retracted_at IS NOT NULL AND admitted_at IS NOT NULL")
    op.create_index(
        "ix_votes_taken_back", "votes", ["id"], sqlite_where=where, postgresql_where=where
    )
    op.create_index("ix_update_rows_seq", "update_rows", ["seq"])
    where = sa.text("id = cluster")
    op.create_index(
        "ix_prompts_first_of_clusters",
        "prompts",
        ["domain", "id"],
        sqlite_where=where,
        postgresql_where=where,
    )
