"""Gold questions, whose right verdict is known: finds people who get more wrong than others."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from fastslow.feedback.chance import so_few
from fastslow.feedback.ledger import Entry
from fastslow.feedback.schema import pairs, votes

CHANCE = 0.001
"""Probability that anybody is named if all are alike."""
Results = Mapping[int, tuple[int, int]]
"""By person, gold questions answered right, and answered."""


@dataclass(frozen=True, slots=True)
class Unreliable:
    """Somebody who gets more wrong than chance explains."""

    who: int
    right: int
    of: int
    others_right: int
    of_others: int
    p: float

    def has(self, entry: Entry) -> bool:
        """True if the row is theirs."""
        return entry.voter == self.who

    def __str__(self) -> str:
        return (
            f"right on {self.right} of {self.of} gold questions, others on "
            f"{self.others_right} of {self.of_others} (p = {self.p:.1g})"
        )


def gold_results(connection: Connection) -> dict[int, tuple[int, int]]:
    """Everybody's results on gold questions, without people who have answered none."""
    right = func.sum(case((votes.c.verdict == pairs.c.gold_verdict, 1), else_=0))
    query = (
        select(votes.c.voter, right, func.count())
        .join(pairs, pairs.c.id == votes.c.pair_id)
        .where(pairs.c.purpose == "gold", votes.c.retracted_at.is_(None), votes.c.verdict != "skip")
        .group_by(votes.c.voter)
        .order_by(votes.c.voter)
    )
    return {voter: (int(hits), int(of)) for voter, hits, of in connection.execute(query)}


def unreliable(results: Results) -> list[Unreliable]:
    """People who get fewer right than the others, by more than chance among so many people."""
    asked = {who: result for who, result in results.items() if result[1]}
    right, count = (sum(result[part] for result in asked.values()) for part in (0, 1))
    named = []
    for who, (own, of_own) in asked.items():
        if (p := so_few(own, of_own, right, count)) < CHANCE / len(asked):
            named.append(Unreliable(who, own, of_own, right - own, count - of_own, p))
    return named
