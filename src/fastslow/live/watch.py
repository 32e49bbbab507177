"""Whether what answers is worse than what answered before, by votes on both, at every look.

A fifth of the pairs show an answer of either, blind. The gate has tested on what it had; this goes
on for as long as an update answers, and undoes it where votes leave no doubt.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from itertools import count, islice

from fastslow.feedback import Connection, updates, watching
from fastslow.live.gate.statistics import e_value

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
    people: Set[int]
    """Of whose votes it learned."""
    lost: dict[int, dict[int, bool]] = field(default_factory=dict)
    """Whether it lost each vote, in order, by person and vote."""

    def counted(self, most: int | None) -> tuple[int, int]:
        """Votes that it lost, and won: of each person `most` at most, the first ones."""
        found = [lost for own in self.lost.values() for lost in islice(own.values(), most)]
        return sum(found), len(found) - sum(found)


class Watch:
    """Counts votes as they come into the ledger.

    Args:
        most: e-value from which an update has fallen.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._each = next(votes for votes in count() if e_value(votes + 1, 0) >= most)
        """Of somebody's votes on an update, which must not undo it alone."""
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
        new = watching.watched(connection, after=self._after, limit=AT_ONCE)
        self._after = new.last
        for one in new.cast:
            score = self._scores.get(one.domain)
            if score is not None and {one.better, one.worse} == {score.update_id, score.parent}:
                own = score.lost.setdefault(one.voter, {})
                own[one.vote_id] = one.worse == score.update_id
        for vote_id in new.taken_back:
            for score in self._scores.values():
                for own in score.lost.values():
                    own.pop(vote_id, None)
        return [fall for score in self._scores.values() if (fall := self._fallen(score))]

    def _follow_routes(self, connection: Connection) -> None:
        for route in updates.all_routes(connection):
            known = self._scores.get(route.domain)
            if route.update_id is None:
                self._scores.pop(route.domain, None)
            elif known is None or known.update_id != route.update_id:
                people = watching.learned_from(connection, route.update_id)
                self._scores[route.domain] = _Score(route.update_id, route.previous_id, people)

    def _fallen(self, score: _Score) -> Fall | None:
        # Of whose votes alone it learned decides alone, as there is nobody else.
        alone = len(score.people) == 1 and score.people == {*score.lost}
        lost, won = score.counted(None if alone else self._each)
        found = e_value(lost, won)
        if found < self._most:
            return None
        before = "the base" if score.parent is None else f"update {score.parent}"
        said = (
            f"of {lost + won} votes on answers of it and of {before}, {lost} were for that one: "
            f"e-value {found:.3g}, undone from {self._most:g}"
        )
        return Fall(score.update_id, said)
