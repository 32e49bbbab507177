"""The first schema."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "cluster_keys",
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("cluster", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_cluster_keys"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.create_index("ix_outbox_due", ["sent_at", "next_try_at"], unique=False)

    op.create_table(
        "principals",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "role IN ('admin', 'annotator', 'viewer', 'service')", name="ck_principals_role"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_principals"),
        sa.UniqueConstraint("name", name="uq_principals_name"),
        sa.UniqueConstraint("token_sha256", name="uq_principals_token_sha256"),
    )
    op.create_table(
        "prompts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("domain", sa.String(length=200), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("cluster", sa.Integer(), nullable=False),
        sa.Column("holdout", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prompts"),
        sa.UniqueConstraint("domain", "sha256", name="uq_prompts_domain_sha256"),
    )
    with op.batch_alter_table("prompts") as batch_op:
        batch_op.create_index("ix_prompts_cluster", ["cluster"], unique=False)

    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("principal_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name="fk_audit_principal_id"),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_table(
        "updates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("domain", sa.String(length=200), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("adapter", sa.String(length=400), nullable=True),
        sa.Column("adapter_sha256", sa.String(length=64), nullable=True),
        sa.Column("checkpoint", sa.String(length=400), nullable=True),
        sa.Column("gate", sa.JSON(), nullable=True),
        sa.Column("decided_by", sa.Integer(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "state IN ('planned', 'learning', 'candidate', 'gating', 'promoted', 'quarantined', "
            "'released', 'discarded', 'superseded', 'rolled_back')",
            name="ck_updates_state",
        ),
        sa.ForeignKeyConstraint(["decided_by"], ["principals.id"], name="fk_updates_decided_by"),
        sa.ForeignKeyConstraint(["parent"], ["updates.id"], name="fk_updates_parent"),
        sa.PrimaryKeyConstraint("id", name="pk_updates"),
    )
    with op.batch_alter_table("updates") as batch_op:
        batch_op.create_index("ix_updates_domain", ["domain", "id"], unique=False)

    op.create_table(
        "answers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("finish", sa.String(length=32), nullable=False),
        sa.Column("token_ids", sa.JSON(), nullable=True),
        sa.Column("tokenizer_sha256", sa.String(length=64), nullable=True),
        sa.Column("logp_sum", sa.Double(), nullable=True),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("update_id", sa.Integer(), nullable=True),
        sa.Column("adapter_sha256", sa.String(length=64), nullable=True),
        sa.Column("model", sa.String(length=400), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name="fk_answers_prompt_id"),
        sa.ForeignKeyConstraint(["update_id"], ["updates.id"], name="fk_answers_update_id"),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
    )
    with op.batch_alter_table("answers") as batch_op:
        batch_op.create_index("ix_answers_prompt_id", ["prompt_id"], unique=False)

    op.create_table(
        "routes",
        sa.Column("domain", sa.String(length=200), nullable=False),
        sa.Column("update_id", sa.Integer(), nullable=True),
        sa.Column("previous_id", sa.Integer(), nullable=True),
        sa.Column("anchor_id", sa.Integer(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["anchor_id"], ["updates.id"], name="fk_routes_anchor_id"),
        sa.ForeignKeyConstraint(["previous_id"], ["updates.id"], name="fk_routes_previous_id"),
        sa.ForeignKeyConstraint(["update_id"], ["updates.id"], name="fk_routes_update_id"),
        sa.PrimaryKeyConstraint("domain", name="pk_routes"),
    )
    op.create_table(
        "pairs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("prompt_id", sa.Integer(), nullable=False),
        sa.Column("a", sa.Integer(), nullable=False),
        sa.Column("b", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("gold_verdict", sa.String(length=16), nullable=True),
        sa.Column("needs", sa.Integer(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "purpose IN ('learn', 'duel', 'gold', 'watch')", name="ck_pairs_purpose"
        ),
        sa.ForeignKeyConstraint(["a"], ["answers.id"], name="fk_pairs_a"),
        sa.ForeignKeyConstraint(["b"], ["answers.id"], name="fk_pairs_b"),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name="fk_pairs_prompt_id"),
        sa.PrimaryKeyConstraint("id", name="pk_pairs"),
    )
    with op.batch_alter_table("pairs") as batch_op:
        batch_op.create_index("ix_pairs_open", ["open", "id"], unique=False)
        batch_op.create_index("ix_pairs_purpose", ["purpose", "open", "id"], unique=False)

    op.create_table(
        "leases",
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("voter", sa.Integer(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_leases_pair_id"),
        sa.ForeignKeyConstraint(["voter"], ["principals.id"], name="fk_leases_voter"),
        sa.PrimaryKeyConstraint("pair_id", "voter", name="pk_leases"),
    )
    with op.batch_alter_table("leases") as batch_op:
        batch_op.create_index("ix_leases_voter", ["voter", "until"], unique=False)

    op.create_table(
        "votes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=True),
        sa.Column("answer_id", sa.Integer(), nullable=True),
        sa.Column("voter", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seen_ms", sa.Integer(), nullable=True),
        sa.Column("idem_key", sa.String(length=200), nullable=False),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("retracted_at", sa.Double(), nullable=True),
        sa.Column("admitted_at", sa.Double(), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('vote', 'rating', 'edit')", name="ck_votes_kind"),
        sa.CheckConstraint(
            "verdict IN ('a', 'b', 'tie', 'both_bad', 'skip', 'up', 'down', 'edited')",
            name="ck_votes_verdict",
        ),
        sa.CheckConstraint("(pair_id IS NULL) <> (answer_id IS NULL)", name="ck_votes_subject"),
        sa.ForeignKeyConstraint(["answer_id"], ["answers.id"], name="fk_votes_answer_id"),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_votes_pair_id"),
        sa.ForeignKeyConstraint(["voter"], ["principals.id"], name="fk_votes_voter"),
        sa.PrimaryKeyConstraint("id", name="pk_votes"),
        sa.UniqueConstraint("voter", "idem_key", name="uq_votes_voter_idem_key"),
    )
    with op.batch_alter_table("votes") as batch_op:
        batch_op.create_index("ix_votes_pair_id", ["pair_id"], unique=False)
        batch_op.create_index("ix_votes_waiting", ["admitted_at", "at"], unique=False)
        batch_op.create_index(
            "uq_votes_voter_kind_answer_id",
            ["voter", "kind", "answer_id"],
            unique=True,
            sqlite_where=sa.text("retracted_at IS NULL"),
            postgresql_where=sa.text("retracted_at IS NULL"),
        )
        batch_op.create_index(
            "uq_votes_voter_pair_id",
            ["voter", "pair_id"],
            unique=True,
            sqlite_where=sa.text("retracted_at IS NULL"),
            postgresql_where=sa.text("retracted_at IS NULL"),
        )

    op.create_table(
        "ledger",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("vote_id", sa.Integer(), nullable=False),
        sa.Column("domain", sa.String(length=200), nullable=False),
        sa.Column("holdout", sa.Boolean(), nullable=False),
        sa.Column("row", sa.JSON(), nullable=True),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint("kind IN ('vote', 'rating', 'edit', 'retract')", name="ck_ledger_kind"),
        sa.ForeignKeyConstraint(["vote_id"], ["votes.id"], name="fk_ledger_vote_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_ledger"),
        sa.UniqueConstraint("kind", "vote_id", name="uq_ledger_kind_vote_id"),
    )
    with op.batch_alter_table("ledger") as batch_op:
        batch_op.create_index("ix_ledger_domain", ["domain", "holdout", "seq"], unique=False)

    op.create_table(
        "update_rows",
        sa.Column("update_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("replayed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["ledger.seq"], name="fk_update_rows_seq"),
        sa.ForeignKeyConstraint(["update_id"], ["updates.id"], name="fk_update_rows_update_id"),
        sa.PrimaryKeyConstraint("update_id", "seq", name="pk_update_rows"),
    )
    with op.batch_alter_table("update_rows") as batch_op:
        batch_op.create_index(
            "uq_update_rows_epoch_seq",
            ["epoch", "seq"],
            unique=True,
            sqlite_where=sa.text("NOT replayed"),
            postgresql_where=sa.text("NOT replayed"),
        )

    meta = sa.table("meta", sa.column("key"), sa.column("value"))
    op.bulk_insert(meta, [{"key": "store", "value": str(uuid4())}, {"key": "epoch", "value": "0"}])
