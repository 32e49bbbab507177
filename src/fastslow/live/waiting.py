"""Which rows are held back, and why: for an admin, or until there are enough to judge by."""

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
ENOUGH = {"edit": 16, "rating": 32}
"""Rows of a kind that the tests need to find inserted phrases in edits, or rules in ratings."""
FEWEST_OTHERS = 16
"""Fewest comparisons to hold them against."""


class Reason(Protocol):
    """Why some rows are held back; `str` says it in words."""

    def has(self, entry: Entry) -> bool:
        """True if the row is one of them."""
        ...


@dataclass(frozen=True, slots=True)
class TooFew:
    """Edits or ratings of newcomers, while there are too few to test."""

    kind: str
    newcomers: Set[int]
    count: int

    def has(self, entry: Entry) -> bool:
        """True if the row is one of them."""
        return entry.kind == self.kind and entry.voter in self.newcomers

    def __str__(self) -> str:
        return (
            f"{self.kind}s by newcomers wait until there are {ENOUGH[self.kind]}, enough to test "
            f"whether they follow a rule of their own; so far there are {self.count}"
        )


def reasons(entries: Iterable[Entry], newcomers: Set[int], limits: GateConfig) -> list[Reason]:
    """Reasons to hold some of these rows back, from comparing who sent them. A limit of 0 turns its
    test off."""
    entries = list(entries)
    tested = {"edit": limits.over_use_p, "rating": limits.own_rule_p}
    kinds = Counter(entry.kind for entry in entries)
    too_few = [
        TooFew(kind, newcomers, kinds[kind])
        for kind, p in tested.items()
        if p and 0 < kinds[kind] < ENOUGH[kind] and kinds[COMPARISON] >= FEWEST_OTHERS
    ]
    return [
        *suspects(entries, p=limits.over_use_p), *own_rules(entries, p=limits.own_rule_p), *too_few
    ]  # fmt: skip


def held_back(
    entries: Iterable[Entry], found: Sequence[Reason], let_through: Mapping[int, float]
) -> dict[int, list[str]]:
    """The rows that are held back, by number, each with its reasons.

    Args:
        found: reasons to hold rows back.
        let_through: people whose rows an admin has let through, each with the time until which.
    """
    return {
        entry.seq: why
        for entry in entries
        if entry.at > let_through.get(entry.voter, -math.inf)
        and (why := [str(reason) for reason in found if reason.has(entry)])
    }
