"""Prompts whose domain somebody named, by which that of others is told, and those others."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from fastslow.feedback.items import Messages
from fastslow.feedback.schema import prompts

LATE = 64
"""Numbers before the last one seen that are looked at again: what was written at the same time may
come to be seen later."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt."""

    number: int
    domain: str
    messages: Messages


def newest_labelled(connection: Connection, *, most: int) -> list[Labelled]:
    """Of every domain the newest ones, at most so many of each."""
    found = list[Labelled]()
    first = select(func.min(prompts.c.domain)).where(~prompts.c.routed)
    domain = connection.scalar(first)
    while domain is not None:  # By the index, from one domain to the next.
        query = _LABELLED.where(prompts.c.domain == domain).order_by(prompts.c.id.desc())
        found += [Labelled(*row) for row in connection.execute(query.limit(most))]
        domain = connection.scalar(first.where(prompts.c.domain > domain))
    return found


def labelled_since(connection: Connection, *, number: int, limit: int) -> list[Labelled]:
    """Those that came after a number, in order, and some that came shortly before it."""
    query = _LABELLED.where(prompts.c.id > number - LATE).order_by(prompts.c.id)
    return [Labelled(*row) for row in connection.execute(query.limit(limit + LATE))]


def newest_routed(connection: Connection, *, most: int) -> list[Labelled]:
    """The newest prompts whose domain nobody named, with what they were given."""
    query = _PROMPTS.where(prompts.c.routed).order_by(prompts.c.id.desc()).limit(most)
    return [Labelled(*row) for row in connection.execute(query)]


_PROMPTS = select(prompts.c.id, prompts.c.domain, prompts.c.messages)
_LABELLED = _PROMPTS.where(~prompts.c.routed)
