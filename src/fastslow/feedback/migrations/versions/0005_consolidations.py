"""Students of what answers in several domains, and the updates that they are."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "consolidations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("by", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('wanted', 'planned')", name=op.f("ck_consolidations_state")),
        sa.ForeignKeyConstraint(["by"], ["principals.id"], name=op.f("fk_consolidations_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consolidations")),
    )
    with op.batch_alter_table("updates") as updates:
        updates.add_column(sa.Column("consolidation_id", sa.Integer(), nullable=True))
        updates.create_foreign_key(
            "fk_updates_consolidation_id", "consolidations", ["consolidation_id"], ["id"]
        )
    op.create_index("ix_updates_consolidation_id", "updates", ["consolidation_id"])
