"""The tables of a feedback store in this version's schema.

Times are Unix seconds. What people send (votes, ratings, edits) is in one table, `votes`, since the
same rules of idempotency, grace and admission hold for all of it. Migrations bring an older store
to this schema; a test compares the two.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

ROLES = ("admin", "annotator", "viewer", "service")
PURPOSES = ("learn", "duel", "gold", "watch")
"""Why a pair is shown: to learn from, fast against slow, to check voters, champion against the
adapter before it."""
KINDS = ("vote", "rating", "edit")
COMPARED = ("a", "b", "tie", "both_bad", "skip")
"""Verdicts on a pair; `skip` is no verdict and is not learned from."""
RATED = ("up", "down")
EDITED = ("edited",)
STATES = (
    "planned", "learning", "candidate", "gating", "waiting", "promoted", "quarantined", "released",
    "discarded", "superseded", "rolled_back",
)  # fmt: skip
"""States of an update, from its plan to its end."""
CONSOLIDATION_STATES = ("wanted", "planned")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


def _reference(name: str, to: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, ForeignKey(f"{to}.id"), nullable=nullable)


def _at(name: str = "at", *, nullable: bool = False) -> Column[float]:
    return Column(name, Double, nullable=nullable)


def _one_of(column: str, allowed: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in allowed)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _unretracted(*columns: str) -> Index:
    """A unique index over the votes that were not taken back."""
    condition: Any = text("retracted_at IS NULL")
    name = f"uq_votes_{'_'.join(columns)}"
    return Index(name, *columns, unique=True, sqlite_where=condition, postgresql_where=condition)


def _index_where(condition: str, name: str, *columns: str, sqlite: str | None = None) -> Index:
    """An index of the rows that meet a condition; `sqlite` is SQLAlchemy's form of it there."""
    where: Any = text(condition)
    return Index(name, *columns, sqlite_where=text(sqlite or condition), postgresql_where=where)


meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""`store`: its uuid, by which runs recognise it. `epoch`: the learner that may publish."""

principals = Table(
    "principals",
    metadata,
    _id(),
    Column("name", String(200), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("disabled", Boolean, nullable=False),
    _at(),
    _at("let_through_at", nullable=True),
    _one_of("role", ROLES),
)
"""People and services, each with one token, stored as a hash. `let_through_at`: see `holding`."""

audit = Table(
    "audit",
    metadata,
    _id(),
    _at(),
    _reference("principal_id", "principals", nullable=True),
    Column("action", String(64), nullable=False),
    Column("detail", JSON, nullable=False),
)
"""Who did what to people, gold questions and routes."""

outbox = Table(
    "outbox",
    metadata,
    _id(),
    _at(),
    Column("kind", String(64), nullable=False),
    Column("body", JSON, nullable=False),
    Column("tries", Integer, nullable=False),
    _at("next_try_at"),
    _at("sent_at", nullable=True),
    Index("ix_outbox_due", "sent_at", "next_try_at"),
)
"""Webhooks: written in the transaction they report, sent at least once."""

prompts = Table(
    "prompts",
    metadata,
    _id(),
    Column("sha256", String(64), nullable=False),
    Column("domain", String(200), nullable=False),
    Column("messages", JSON, nullable=False),
    Column("cluster", Integer, nullable=False, index=True),
    Column("holdout", Boolean, nullable=False),
    Column("routed", Boolean, nullable=False, server_default=false()),
    _at(),
    UniqueConstraint("domain", "sha256"),
    _index_where("id = cluster", "ix_prompts_first_of_clusters", "domain", "id"),
    _index_where("NOT routed", "ix_prompts_labelled", "domain", "id", sqlite="routed = 0"),
    _index_where("routed", "ix_prompts_routed", "id", sqlite="routed = 1"),
)
"""Conversations that end with a user's turn. Near-duplicates share a cluster, and the answers to a
tenth of all clusters are never learned from. `routed` if nobody named the domain when the prompt
first came, so that it was predicted from the prompt."""

cluster_keys = Table(
    "cluster_keys",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("cluster", Integer, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    _id(),
    _reference("prompt_id", "prompts"),
    Column("text", Text, nullable=False),
    Column("finish", String(32), nullable=False),
    Column("token_ids", JSON, nullable=True),
    Column("tokenizer_sha256", String(64), nullable=True),
    Column("logp_sum", Double, nullable=True),
    Column("params", JSON, nullable=False),
    Column("seed", BigInteger, nullable=True),
    _reference("update_id", "updates", nullable=True),
    Column("adapter_sha256", String(64), nullable=True),
    Column("model", String(400), nullable=True),
    _reference("given_to", "principals", nullable=True),
    _at(),
    Index("ix_answers_prompt_id", "prompt_id"),
)
"""Answers, with the adapter that gave them and how they were sampled. `given_to`: who asked for it;
leases show who else saw it in a pair."""

pairs = Table(
    "pairs",
    metadata,
    _id(),
    _reference("prompt_id", "prompts"),
    _reference("a", "answers"),
    _reference("b", "answers"),
    Column("purpose", String(16), nullable=False),
    Column("gold_verdict", String(16), nullable=True),
    Column("needs", Integer, nullable=False),
    Column("open", Boolean, nullable=False),
    _at(),
    _one_of("purpose", PURPOSES),
    Index("ix_pairs_open", "open", "id"),
    Index("ix_pairs_purpose", "purpose", "open", "id"),
)
"""Two answers to compare. `a`, shown on the left, is either of them at random. `open` while it has
fewer unretracted verdicts than it `needs`."""

leases = Table(
    "leases",
    metadata,
    Column("pair_id", ForeignKey("pairs.id"), nullable=False),
    Column("voter", ForeignKey("principals.id"), nullable=False),
    _at("until"),
    PrimaryKeyConstraint("pair_id", "voter"),
    Index("ix_leases_voter", "voter", "until"),
)
"""Who was given which pair. Until `until` nobody else gets it in their place. The holder may vote
later too, so that late votes are not lost."""

votes = Table(
    "votes",
    metadata,
    _id(),
    Column("kind", String(16), nullable=False),
    _reference("pair_id", "pairs", nullable=True),
    _reference("answer_id", "answers", nullable=True),
    _reference("voter", "principals"),
    Column("verdict", String(16), nullable=False),
    Column("text", Text, nullable=True),
    Column("reason", Text, nullable=True),
    Column("seen_ms", Integer, nullable=True),
    Column("idem_key", String(200), nullable=False),
    Column("body_sha256", String(64), nullable=False),
    _at(),
    _at("retracted_at", nullable=True),
    _at("admitted_at", nullable=True),
    Column("refused", Text, nullable=True),
    _one_of("kind", KINDS),
    _one_of("verdict", COMPARED + RATED + EDITED),
    CheckConstraint("(pair_id IS NULL) <> (answer_id IS NULL)", name="subject"),
    UniqueConstraint("voter", "idem_key"),
    _unretracted("voter", "pair_id"),
    _unretracted("voter", "kind", "answer_id"),
    Index("ix_votes_waiting", "admitted_at", "at"),
    Index("ix_votes_pair_id", "pair_id"),
    _index_where(
        "retracted_at IS NOT NULL AND admitted_at IS NOT NULL", "ix_votes_taken_back", "id"
    ),
)
"""A vote on a pair, a rating of an answer, or an edited answer (`text`). `admitted_at` is when it
was admitted to the ledger, or `refused`, with the reason."""

ledger = Table(
    "ledger",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    _reference("vote_id", "votes"),
    Column("domain", String(200), nullable=False),
    Column("holdout", Boolean, nullable=False),
    Column("row", JSON, nullable=True),
    _at(),
    _one_of("kind", (*KINDS, "retract")),
    UniqueConstraint("kind", "vote_id"),
    Index("ix_ledger_domain", "domain", "holdout", "seq"),
)
"""Training rows made from votes, as the learner reads them, numbered 1, 2, 3, ... in the order of
admission. `retract` takes back the row of an earlier vote."""

consolidations = Table(
    "consolidations",
    metadata,
    _id(),
    _at(),
    _reference("by", "principals", nullable=True),
    Column("state", String(16), nullable=False),
    Column("why", Text, nullable=True),
    _one_of("state", CONSOLIDATION_STATES),
)
"""Requested students, each taught by what answers in every domain; `why`: the reason that one is
not planned yet."""

updates = Table(
    "updates",
    metadata,
    _id(),
    Column("domain", String(200), nullable=False),
    _reference("parent", "updates", nullable=True),
    Column("epoch", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("adapter", String(400), nullable=True),
    Column("adapter_sha256", String(64), nullable=True),
    Column("checkpoint", String(400), nullable=True),
    Column("gate", JSON, nullable=True),
    _reference("decided_by", "principals", nullable=True),
    _at(),
    _reference("consolidation_id", "consolidations", nullable=True),
    _one_of("state", STATES),
    Index("ix_updates_domain", "domain", "id"),
    Index("ix_updates_consolidation_id", "consolidation_id"),
)
"""What was learned at one time: from planned ledger rows or, for a consolidation, from what
answered in all of its domains (its updates' parents)."""

update_rows = Table(
    "update_rows",
    metadata,
    Column("update_id", ForeignKey("updates.id"), nullable=False),
    Column("seq", ForeignKey("ledger.seq"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("replayed", Boolean, nullable=False),
    PrimaryKeyConstraint("update_id", "seq"),
    Index("ix_update_rows_seq", "seq"),
    Index(
        "uq_update_rows_epoch_seq",
        "epoch",
        "seq",
        unique=True,
        sqlite_where=text("NOT replayed"),
        postgresql_where=text("NOT replayed"),
    ),
)
"""Which update learned which rows. Within an epoch a row is new to one update only, and may be
replayed in others."""

held_back = Table(
    "held_back",
    metadata,
    Column("domain", String(200), nullable=False),
    _reference("voter", "principals"),
    _at(),
    Column("rows", Integer, nullable=False),
    Column("said", Text, nullable=False),
    PrimaryKeyConstraint("domain", "voter"),
)
"""How many of a person's rows in a domain wait until an admin has looked at them, and why."""

routes = Table(
    "routes",
    metadata,
    Column("domain", String(200), primary_key=True),
    _reference("update_id", "updates", nullable=True),
    _reference("previous_id", "updates", nullable=True),
    _reference("anchor_id", "updates", nullable=True),
    Column("epoch", Integer, nullable=False),
)
"""Which update answers in a domain, the one before it, and the last that a person approved."""


def insert_row(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Add a row to a table that numbers its rows; returns its number."""
    key = connection.execute(table.insert(), values).inserted_primary_key
    assert key is not None
    return int(key[0])
