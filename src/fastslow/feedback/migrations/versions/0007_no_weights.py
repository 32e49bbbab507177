"""A row of the ledger is learned or it is not: no weights any more."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.drop_column("ledger", "weight")
    op.drop_column("ledger", "confidence")
