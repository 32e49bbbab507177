"""What an update is tested on, out of the store."""

from fastslow.config import GateConfig
from fastslow.feedback import Connection, items, planning, updates
from fastslow.feedback.updates import Update
from fastslow.live.gate.gate import Evidence

MOST_HELD_OUT = 1024
"""Held-out votes that are scored: the last ones."""


def evidence_for(connection: Connection, update: Update, limits: GateConfig) -> Evidence:
    """The rows that an update learned, held-out ones of its domain, and prompts of it."""
    learned = updates.rows_of(connection, update.id)
    kept = planning.held_out(connection, update.domain, limit=MOST_HELD_OUT)
    asked = items.last_prompts(connection, update.domain, count=limits.prompts)
    return Evidence(
        [one.row for one in learned if one.row is not None],
        [one.row for one in kept if one.row is not None],
        [{"prompt": messages} for messages in asked],
    )
