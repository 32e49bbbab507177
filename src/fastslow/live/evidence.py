"""What an update is tested on, out of the store."""

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
"""Held-out votes that are scored: the last ones."""
MOST_LEARNED = 256
"""Of those that were learned, where too few are held out."""


def evidence_for(connection: Connection, update: Update, limits: GateConfig) -> Evidence:
    """The rows that an update learned, held-out ones of its domain, and prompts of it.

    The same whenever it is asked for: of what came after its plan there is nothing in it.
    """
    learned = updates.rows_of(connection, update.id)
    facts = {"up_to": max(one.seq for one in learned), "limit": MOST_HELD_OUT}
    kept = planning.held_out(connection, update.domain, **facts)
    asked = items.last_prompts(connection, update.domain, until=update.at, count=limits.prompts)
    # Nobody measures alone either, where others vote: who learns wrong is measured wrong by them.
    new = planning.newcomers(connection, {one.voter for one in kept}, fewer=SETTLED, at=update.at)
    fair = within_shares(kept, len(kept), newcomers=new, of_newcomers=limits.newcomers)
    held_out = [one.row for one in fair if one.row is not None]
    remembered = list[Entry]()
    if len(decided(held_out)) < limits.held_out:
        remembered = planning.last_learned(connection, update.domain, limit=MOST_LEARNED)
    newest = planning.newest(connection, update.domain, until=update.at, limit=COMPARED)
    return Evidence(
        [one.row for one in learned if one.row is not None],
        held_out,
        [one.row for one in remembered if one.row is not None],
        [{"prompt": messages} for messages in asked],
        triggers(newest),
    )
