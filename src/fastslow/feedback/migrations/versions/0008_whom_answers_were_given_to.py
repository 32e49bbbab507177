"""Whom an answer was given to, who may rate and edit it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("answers") as answers:
        answers.add_column(sa.Column("given_to", sa.Integer(), nullable=True))
        answers.create_foreign_key("fk_answers_given_to", "principals", ["given_to"], ["id"])
