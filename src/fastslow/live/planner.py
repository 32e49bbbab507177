"""Which rows are learned next: as many as an update takes, or after a while what there is."""

import random
from dataclasses import dataclass

from fastslow.feedback import Connection, planning
from fastslow.live.shares import within_shares

AHEAD = 8
"""Times the rows of an update that are looked at, so that other people's are found."""
SETTLED = 20
"""Votes of somebody who is no newcomer."""


@dataclass(frozen=True, slots=True)
class Next:
    """Numbers of rows of the ledger."""

    domain: str
    rows: tuple[int, ...]
    replayed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Planner:
    """Chooses rows in the ledger's order, nobody's above their share.

    Args:
        rows: that an update takes.
        max_wait_s: seconds after which fewer are taken, filled up with rows learned before.
        seed: of the rows that are learned once more.
    """

    rows: int
    max_wait_s: float
    seed: int

    def next(self, connection: Connection, *, now: float) -> list[Next]:
        """What is to be learned now, at most one update of each domain."""
        found = [self._in(connection, domain, now) for domain in planning.domains(connection)]
        return [one for one in found if one is not None]

    def _in(self, connection: Connection, domain: str, now: float) -> Next | None:
        waiting = planning.waiting(connection, domain, limit=AHEAD * self.rows)
        voters = {one.voter for one in waiting}
        new = planning.newcomers(connection, voters, fewer=SETTLED)
        own = tuple(one.seq for one in within_shares(waiting, self.rows, newcomers=new))
        if len(own) == self.rows:
            return Next(domain, own)
        if not own or now - waiting[0].at < self.max_wait_s:
            return None
        before = planning.learned(connection, domain)
        count = min(self.rows - len(own), len(before))
        again = random.Random(f"{self.seed} {own[0]}").sample(before, count)
        return Next(domain, own, tuple(sorted(again)))
