"""Whose rows are looked at together: a person's, a kind's, or those of prompts with a phrase."""

from collections.abc import Sequence

from fastslow.feedback.ledger import Entry
from fastslow.live.triggers import asked

Who = int | str
"""A person, TOGETHER, or those whose prompts have a phrase that only a few write."""
TOGETHER = ""
"""All who send rows of a kind."""


def groups_of(entry: Entry, kind: str, rare: Sequence[Who]) -> list[Who]:
    """Together with which rows one is looked at; `kind` is the one that is looked at as a whole."""
    found: list[Who] = [entry.voter, TOGETHER] if entry.kind == kind else [entry.voter]
    return found + [one for one in rare if one in asked(entry.row or {})]


def name_of(who: Who, kind: str) -> str:
    """A group in words, in the plural."""
    if not isinstance(who, str):
        return f"votes of person {who}"
    return f"votes on prompts with {who!r}" if who else f"{kind}s"
