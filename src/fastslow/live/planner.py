"""Which rows are learned next: as many as an update takes, or after a while what there is."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from fastslow.config import GateConfig
from fastslow.feedback import Connection, consolidating, holding, ledger, people, planning
from fastslow.feedback.consolidating import Consolidation
from fastslow.feedback.gold import gold_results, unreliable
from fastslow.feedback.holding import HeldBack
from fastslow.feedback.ledger import Entry
from fastslow.live.shares import SETTLED, within_shares
from fastslow.live.waiting import Reason, held_back, reasons

AHEAD = 8, 64
"""Times the rows of an update that are looked at, so that other people's are found; further where
too few may be taken of these, or all are newcomers', behind which others may wait."""
COMPARED = 1024
"""Rows of a domain, the newest ones, by which people are compared."""
SHOWN = 512
"""Rows of a domain that its teacher shows to a student, at most."""


@dataclass(frozen=True, slots=True)
class Next:
    """Numbers of rows of the ledger."""

    domain: str
    rows: tuple[int, ...]
    replayed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Compared:
    """What came out when people were compared."""

    waiting: list[Entry]
    let_through: Mapping[int, float]
    held: Mapping[int, Sequence[str]]
    """Why a row is held back, by its number."""

    def by_person(self, domain: str) -> list[HeldBack]:
        """Whose rows are held back."""
        rows, why = Counter[int](), dict[int, set[str]]()
        for one in self.waiting:
            if one.seq in self.held:
                rows[one.voter] += 1
                why.setdefault(one.voter, set()).update(self.held[one.seq])
        return [
            HeldBack(domain, voter, rows[voter], "; ".join(sorted(why[voter])))
            for voter in sorted(rows)
        ]


def shown_by(
    connection: Connection, consolidation: Consolidation, seed: int
) -> dict[str, list[int]]:
    """Rows that what answers in each domain has learned, on which it teaches a student: an even
    sample, in the ledger's order."""
    found = {}
    for domain in (one.domain for one in consolidating.taught_in(connection)):
        learned = planning.learned(connection, domain)
        draw = random.Random(f"{seed} {consolidation.id} {domain}")
        found[domain] = sorted(draw.sample(learned, min(SHOWN, len(learned))))
    return found


class Planner:
    """Chooses rows in the ledger's order, nobody's above their share.

    Args:
        rows: that an update takes.
        max_wait_s: seconds after which fewer are taken, with as many learned before at most.
        seed: of the rows that are learned once more.
        gate: what it takes for rows to wait; without it nobody is compared.
    """

    def __init__(
        self, rows: int, max_wait_s: float, seed: int, gate: GateConfig | None = None
    ) -> None:
        self._rows, self._max_wait_s, self._seed = rows, max_wait_s, seed
        self._gate = gate
        self._of_newcomers = (gate or GateConfig()).newcomers
        self._due = math.inf
        """When the first row of the domain that is looked at will have waited long enough."""
        self._known: dict[str, _Compared] = {}
        """Of each domain what came out when people were last compared, which takes longer than a
        look may."""
        self._marks: dict[str, tuple[int, int]] = {}
        """Of each domain the row before the first that waits, which saves looking at all before
        it, as long as so many updates have given their rows back."""
        self._quiet: dict[str, tuple[tuple[Any, ...], float]] = {}
        """Of each domain in which nothing was to be learned what that hangs on, and until when: a
        look at thousands of them takes longer than one may."""
        self._seen: dict[tuple[str, int], tuple[tuple[int, ...], list[Entry]]] = {}
        """Of each domain, and how far ahead, the rows that wait, and what they hang on: they are
        read again, which takes long where many are held back, only when that has changed."""

    def next(self, connection: Connection, *, now: float) -> list[Next]:
        """What is to be learned now, at most one update of each domain."""
        through = holding.let_through_until(connection)
        everywhere = planning.marks(connection), people.last_note(connection), through
        found = []
        for domain in planning.domains(connection):
            hangs_on = planning.last_row(connection, domain), *everywhere
            before, until = self._quiet.get(domain, ((), 0.0))
            if hangs_on == before and now < until:
                continue
            self._due = math.inf
            one = self._in(connection, domain, through, now)
            if one is not None:
                found.append(one)
            self._quiet[domain] = hangs_on, -math.inf if one is not None else self._due
        return found

    def _in(
        self, connection: Connection, domain: str, through: Mapping[int, float], now: float
    ) -> Next | None:
        if planning.on_the_way(connection, domain) is not None:
            return None  # What comes next begins at its end, if it comes to answer.
        if domain in self._known and self._known[domain].let_through != through:
            del self._known[domain]  # What was held back may be free, and enough with the rest.
        enough = self._rows + self._held(domain)
        for ahead in AHEAD:
            waiting = self._waiting(connection, domain, ahead)
            voters = {one.voter for one in waiting}
            new = planning.newcomers(connection, voters, fewer=SETTLED, at=now)
            full = len(self._fair(waiting, enough, new)) == enough
            if (full and voters - new) or len(waiting) < ahead * self._rows:
                break
        if not (full or self._late(waiting, now)):
            return None
        free = self._free(connection, domain, waiting, through, new, now)
        own = tuple(one.seq for one in self._fair(free, self._rows, new))
        if len(own) == self._rows:
            return Next(domain, own)
        if not own or not self._late(free, now):
            return None
        before = planning.learned(connection, domain)
        # As many again as are new: where few vote, each would be learned dozens of times.
        count = min(self._rows - len(own), len(own), len(before))
        again = random.Random(f"{self._seed} {own[0]}").sample(before, count)
        return Next(domain, own, tuple(sorted(again)))

    def look_again(self) -> None:
        """Trust nothing that was read before: a row waits no more, as its vote was taken back."""
        self._seen.clear()
        self._quiet.clear()

    def held_back(self) -> dict[str, list[HeldBack]]:
        """Of each domain whose rows were held back when people were last compared, and why."""
        return {domain: known.by_person(domain) for domain, known in self._known.items()}

    def _late(self, rows: Sequence[Entry], now: float) -> bool:
        """Whether the first of some rows has waited long enough, or when it will have."""
        if not rows:
            return False
        self._due = min(self._due, rows[0].at + self._max_wait_s)
        return now - rows[0].at >= self._max_wait_s

    def _fair(self, rows: list[Entry], size: int, new: Set[int]) -> list[Entry]:
        return within_shares(rows, size, newcomers=new, of_newcomers=self._of_newcomers)

    def _free(
        self,
        connection: Connection,
        domain: str,
        waiting: list[Entry],
        through: Mapping[int, float],
        new: Set[int],
        now: float,
    ) -> list[Entry]:
        """Those that need not wait; compared only where others wait than before."""
        known = self._known.get(domain)
        if known is None or known.waiting != waiting:
            found = self._reasons(connection, domain, new, now)
            known = _Compared(waiting, through, held_back(waiting, found, through))
            self._known[domain] = known
        return [one for one in waiting if one.seq not in known.held]

    def _reasons(
        self, connection: Connection, domain: str, new: Set[int], now: float
    ) -> list[Reason]:
        """Why rows are held back, by the newest ones and by gold questions."""
        found = list[Reason](unreliable(gold_results(connection)))
        if self._gate is not None:
            rows = planning.newest(connection, domain, until=now, limit=COMPARED)
            found += reasons(rows, new, self._gate)
        return found

    def _held(self, domain: str) -> int:
        """How many rows were held back when people were last compared."""
        return len(self._known[domain].held) if domain in self._known else 0

    def _waiting(self, connection: Connection, domain: str, ahead: int) -> list[Entry]:
        freed, limit = planning.freed(connection, domain), ahead * self._rows + self._held(domain)
        now = (
            freed, limit, ledger.last_seq(connection), planning.last_planned(connection, domain),
            people.last_note(connection),  # Somebody may have been forgotten.
        )  # fmt: skip
        hangs_on, waiting = self._seen.get((domain, ahead), ((), []))
        if hangs_on == now:
            return waiting
        when, before = self._marks.get(domain, (freed, 0))
        if when != freed:
            before = 0
        found = planning.waiting(connection, domain, after=before, limit=limit)
        self._marks[domain] = freed, found[0].seq - 1 if found else before
        self._seen[domain, ahead] = now, found
        return found
