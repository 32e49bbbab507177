"""Rows that are held back, and until when somebody's were let through."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "held_back",
        sa.Column("domain", sa.String(200), nullable=False),
        sa.Column("voter", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["voter"], ["principals.id"], name=op.f("fk_held_back_voter")),
        sa.PrimaryKeyConstraint("domain", "voter", name=op.f("pk_held_back")),
    )
    op.add_column("principals", sa.Column("let_through_at", sa.Double(), nullable=True))
