"""Which rows wait, and why: for an admin, or until there are enough to tell what somebody does."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from fastslow.config import GateConfig
from fastslow.feedback.ledger import Entry
from fastslow.live.own_rules import own_rules
from fastslow.live.suspects import suspects

COMPARISON = "vote"
TELLING = {"edit": 16, "rating": 32}
"""How many it takes of a kind until the tests find what is put in, or whom they serve."""
FEWEST_OTHERS = 16
"""Comparisons to hold them against."""


class Reason(Protocol):
    """Why some rows wait; in words as a string."""

    def has(self, entry: Entry) -> bool:
        """Whether a row is one of them."""
        ...


@dataclass(frozen=True, slots=True)
class Untold:
    """Edits, or ratings, of people who have hardly sent anything, while there are too few to
    tell."""

    kind: str
    newcomers: Set[int]
    count: int

    def has(self, entry: Entry) -> bool:
        """Whether a row is one of them."""
        return entry.kind == self.kind and entry.voter in self.newcomers

    def __str__(self) -> str:
        return (
            f"{self.kind}s of somebody new wait until there are {TELLING[self.kind]}, which tell "
            f"whether they follow a rule of their own; there are {self.count}"
        )


def reasons(entries: Iterable[Entry], newcomers: Set[int], limits: GateConfig) -> list[Reason]:
    """Why some of these rows wait, by comparing who sent them; nothing where 0 asks for no test."""
    entries = list(entries)
    tested = {"edit": limits.over_use_p, "rating": limits.own_rule_p}
    kinds = Counter(one.kind for one in entries)
    untold = [
        Untold(kind, newcomers, kinds[kind])
        for kind, p in tested.items()
        if p and 0 < kinds[kind] < TELLING[kind] and kinds[COMPARISON] >= FEWEST_OTHERS
    ]
    return [
        *suspects(entries, p=limits.over_use_p), *own_rules(entries, p=limits.own_rule_p), *untold
    ]  # fmt: skip


def held_back(
    entries: Iterable[Entry], found: Sequence[Reason], let_through: Mapping[int, float]
) -> dict[int, list[str]]:
    """Which rows wait, by their numbers, each with what is said of who sent it.

    Args:
        found: why rows wait.
        let_through: of people whose rows an admin has let through, until when.
    """
    return {
        one.seq: said
        for one in entries
        if one.at > let_through.get(one.voter, -math.inf)
        and (said := [str(reason) for reason in found if reason.has(one)])
    }
