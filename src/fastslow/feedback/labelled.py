"""Reads prompts whose domain somebody named, for predicting others' domains, and those others."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from fastslow.feedback.items import Messages
from fastslow.feedback.schema import prompts

LATE = 64
"""How many numbers before the last one read are read again: prompts written at the same time may
become visible later."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt and its domain."""

    number: int
    domain: str
    messages: Messages


def newest_labelled(connection: Connection, *, most: int) -> list[Labelled]:
    """The newest prompts with a named domain, at most `most` per domain."""
    labelled = list[Labelled]()
    first = select(func.min(prompts.c.domain)).where(~prompts.c.routed)
    domain = connection.scalar(first)
    while domain is not None:  # The index leads from one domain to the next.
        query = _LABELLED.where(prompts.c.domain == domain).order_by(prompts.c.id.desc())
        labelled += [Labelled(*row) for row in connection.execute(query.limit(most))]
        domain = connection.scalar(first.where(prompts.c.domain > domain))
    return labelled


def labelled_since(connection: Connection, *, number: int, limit: int) -> list[Labelled]:
    """Prompts with a named domain after a number, in order, and some from shortly before it."""
    query = _LABELLED.where(prompts.c.id > number - LATE).order_by(prompts.c.id)
    return [Labelled(*row) for row in connection.execute(query.limit(limit + LATE))]


def newest_routed(connection: Connection, *, most: int) -> list[Labelled]:
    """The newest prompts whose domain nobody named, with the domain they were given."""
    query = _PROMPTS.where(prompts.c.routed).order_by(prompts.c.id.desc()).limit(most)
    return [Labelled(*row) for row in connection.execute(query)]


_PROMPTS = select(prompts.c.id, prompts.c.domain, prompts.c.messages)
_LABELLED = _PROMPTS.where(~prompts.c.routed)
