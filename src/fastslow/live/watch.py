"""Watches, at every poll, whether what answers is worse than its predecessor, by votes on both.

A fifth of the pairs show one answer of each, blind. The gate tests on the votes it has; the watch
lasts as long as an update answers, and undoes it where votes leave no doubt.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from itertools import count, islice

from fastslow.feedback import Connection, updates, watching
from fastslow.live.gate.statistics import e_value

AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Fall:
    """An update whose answers lose against those of its predecessor."""

    update_id: int
    said: str
    """In words, with the numbers and the threshold."""

    def __str__(self) -> str:
        return f"update {self.update_id} is undone: {self.said}"


@dataclass(slots=True)
class _Score:
    """Votes on the update that answers in a domain, against its parent."""

    update_id: int
    parent: int | None
    people: Set[int]
    """People whose votes it learned from."""
    lost: dict[int, dict[int, bool]] = field(default_factory=dict)
    """Whether it lost each vote, by person and vote, in order."""

    def counted(self, most: int | None) -> tuple[int, int]:
        """Votes that it lost, and won: of each person at most the first `most`."""
        losses = [lost for votes in self.lost.values() for lost in islice(votes.values(), most)]
        return sum(losses), len(losses) - sum(losses)


class Watch:
    """Counts votes as they come into the ledger.

    Args:
        most: e-value from which an update has fallen.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._each = next(votes for votes in count() if e_value(votes + 1, 0) >= most)
        """Most votes counted per person, so that nobody can undo an update alone."""
        self._scores: dict[str, _Score] = {}
        self._after: int | None = None

    def look(self, connection: Connection) -> list[Fall]:
        """Updates that have fallen, by the votes so far. However often this is called, an update as
        good as its parent falls with a probability of at most 1 in `most`; at most twice that where
        others vote after the only voter, whose votes are then capped."""
        self._follow_routes(connection)
        if self._after is None:
            self._after = min(
                (
                    watching.first_watched(connection, score.update_id)
                    for score in self._scores.values()
                ),
                default=0,
            )
        new = watching.watched(connection, after=self._after, limit=AT_ONCE)
        self._after = new.last
        for vote in new.cast:
            score = self._scores.get(vote.domain)
            if score is not None and {vote.better, vote.worse} == {score.update_id, score.parent}:
                votes = score.lost.setdefault(vote.voter, {})
                votes[vote.vote_id] = vote.worse == score.update_id
        for vote_id in new.taken_back:
            for score in self._scores.values():
                for votes in score.lost.values():
                    votes.pop(vote_id, None)
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
        # If it learned from one person only, they decide alone, as there is nobody else.
        alone = len(score.people) == 1 and score.people == {*score.lost}
        lost, won = score.counted(None if alone else self._each)
        evidence = e_value(lost, won)
        if evidence < self._most:
            return None
        before = "the base" if score.parent is None else f"update {score.parent}"
        said = (
            f"{lost} of {lost + won} votes preferred answers of {before}; e-value "
            f"{evidence:.3g}, undone from {self._most:g}"
        )
        return Fall(score.update_id, said)
