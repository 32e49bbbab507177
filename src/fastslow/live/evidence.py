"""What an update is tested on, out of the store."""

from fastslow.config import GateConfig
from fastslow.feedback import Connection, items, planning, updates
from fastslow.feedback.updates import Update
from fastslow.live.gate.gate import Evidence

MOST_HELD_OUT = 1024
"""Held-out votes that are scored: the last ones."""


def evidence_for(connection: Connection, update: Update, limits: GateConfig) -> Evidence:
    """The rows that an update learned, held-out ones of its domain, and prompts of it.

    The same whenever it is asked for: of what came after its plan there is nothing in it.
    """
    learned = updates.rows_of(connection, update.id)
    facts = {"up_to": max(one.seq for one in learned), "limit": MOST_HELD_OUT}
    kept = planning.held_out(connection, update.domain, **facts)
    asked = items.last_prompts(connection, update.domain, until=update.at, count=limits.prompts)
    return Evidence(
        [one.row for one in learned if one.row is not None],
        [one.row for one in kept if one.row is not None],
        [{"prompt": messages} for messages in asked],
    )
