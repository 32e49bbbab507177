"""Groups of rows that are tested together: of a person, of a kind, or of prompts with a phrase."""

from collections.abc import Sequence

from fastslow.feedback.ledger import Entry
from fastslow.live.triggers import asked

Who = int | str
"""A person, TOGETHER, or a phrase that only a few people write in prompts."""
TOGETHER = ""
"""Everybody who sends rows of a kind."""


def groups_of(entry: Entry, kind: str, rare: Sequence[Who]) -> list[Who]:
    """The groups that a row belongs to; rows of `kind` are also tested all together."""
    groups: list[Who] = [entry.voter, TOGETHER] if entry.kind == kind else [entry.voter]
    return groups + [phrase for phrase in rare if phrase in asked(entry.row or {})]


def name_of(who: Who, kind: str) -> str:
    """A group's name for messages, in the plural."""
    if not isinstance(who, str):
        return f"votes by person {who}"
    return f"votes on prompts with {who!r}" if who else f"{kind}s"
