"""Updates that have passed the gate and wait for a person."""

from alembic import op

revision = "0003"
down_revision = "0002"
STATES = (
    "planned", "learning", "candidate", "gating", "waiting", "promoted", "quarantined", "released",
    "discarded", "superseded", "rolled_back",
)  # fmt: skip


def upgrade() -> None:
    listed = ", ".join(f"'{one}'" for one in STATES)
    with op.batch_alter_table("updates") as updates:
        if op.get_bind().dialect.name == "postgresql":  # SQLite's new table begins without it.
            updates.drop_constraint("ck_updates_state", type_="check")
        updates.create_check_constraint("ck_updates_state", f"state IN ({listed})")
