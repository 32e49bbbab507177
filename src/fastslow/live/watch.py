"""Whether what answers is worse than what answered before, by votes on both, at every look.

A fifth of the pairs show an answer of either, blind. The gate has tested on what it had; this goes
on for as long as an update answers, and undoes it where votes leave no doubt.
"""

from collections import Counter
from dataclasses import dataclass, field

from fastslow.feedback import Connection, updates, watching
from fastslow.live.gate.statistics import e_value

EACH = 20
"""Votes of one person that count for an update, the first ones: nobody undoes it alone."""
AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Fall:
    """An update whose answers lose against those of the one before."""

    update_id: int
    said: str
    """In words, with the numbers and the threshold."""

    def __str__(self) -> str:
        return f"update {self.update_id} is undone: {self.said}"


@dataclass(slots=True)
class _Score:
    """Of the update that answers in a domain, against its parent."""

    update_id: int
    parent: int | None
    won: int = 0
    lost: int = 0
    by: Counter[int] = field(default_factory=Counter)
    """Votes of each person."""


class Watch:
    """Counts votes as they come into the ledger.

    Args:
        most: e-value from which an update has fallen.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._scores: dict[str, _Score] = {}
        self._after: int | None = None

    def look(self, connection: Connection) -> list[Fall]:
        """What has fallen, by the votes so far. However often one looks, an update that is as good
        as its parent is called fallen with a probability of at most 1 in `most`."""
        self._follow_routes(connection)
        if self._after is None:
            self._after = min(
                (
                    watching.first_watched(connection, one.update_id)
                    for one in self._scores.values()
                ),
                default=0,
            )
        new, self._after = watching.watched(connection, after=self._after, limit=AT_ONCE)
        for one in new:
            score = self._scores.get(one.domain)
            if score is None or {one.better, one.worse} != {score.update_id, score.parent}:
                continue
            score.by[one.voter] += 1
            if score.by[one.voter] <= EACH:
                score.won += one.better == score.update_id
                score.lost += one.worse == score.update_id
        return [fall for score in self._scores.values() if (fall := self._fallen(score))]

    def _follow_routes(self, connection: Connection) -> None:
        for route in updates.all_routes(connection):
            known = self._scores.get(route.domain)
            if route.update_id is None:
                self._scores.pop(route.domain, None)
            elif known is None or known.update_id != route.update_id:
                self._scores[route.domain] = _Score(route.update_id, route.previous_id)

    def _fallen(self, score: _Score) -> Fall | None:
        found = e_value(score.lost, score.won)
        if found < self._most:
            return None
        before = "the base" if score.parent is None else f"update {score.parent}"
        count = score.won + score.lost
        said = (
            f"of {count} votes on answers of it and of {before}, {score.lost} were for that one: "
            f"e-value {found:.3g}, undone from {self._most:g}"
        )
        return Fall(score.update_id, said)
