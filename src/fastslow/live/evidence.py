"""Reads what an update is tested on from the store."""

from fastslow.config import GateConfig
from fastslow.feedback import Connection, items, planning, updates
from fastslow.feedback.ledger import Entry
from fastslow.feedback.updates import Update
from fastslow.live.choice import decided
from fastslow.live.gate.gate import Evidence
from fastslow.live.planner import COMPARED
from fastslow.live.shares import SETTLED, within_shares
from fastslow.live.triggers import triggers

MOST_HELD_OUT = 1024
"""Most held-out votes that are scored: the last ones."""
MOST_LEARNED = 256
"""Most learned votes that are scored, if too few are held out."""


def evidence_for(connection: Connection, update: Update, limits: GateConfig) -> Evidence:
    """The rows that an update learned, and held-out rows and prompts of its domain.

    Always the same for an update: it contains nothing that came after the update's plan.
    """
    learned = updates.rows_of(connection, update.id)
    facts = {"up_to": max(entry.seq for entry in learned), "limit": MOST_HELD_OUT}
    kept = planning.held_out(connection, update.domain, **facts)
    asked = items.last_prompts(connection, update.domain, until=update.at, count=limits.prompts)
    # Shares are capped here too: people who teach something wrong would also measure it wrong.
    new = planning.newcomers(
        connection, {entry.voter for entry in kept}, fewer=SETTLED, at=update.at
    )
    fair = within_shares(kept, len(kept), newcomers=new, of_newcomers=limits.newcomers)
    held_out = [entry.row for entry in fair if entry.row is not None]
    remembered = list[Entry]()
    if len(decided(held_out)) < limits.held_out:
        remembered = planning.last_learned(connection, update.domain, limit=MOST_LEARNED)
    newest = planning.newest(connection, update.domain, until=update.at, limit=COMPARED)
    return Evidence(
        [entry.row for entry in learned if entry.row is not None],
        held_out,
        [entry.row for entry in remembered if entry.row is not None],
        [{"prompt": messages} for messages in asked],
        triggers(newest),
    )
