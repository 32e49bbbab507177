"""Chooses which rows are learned next: a full update, or after a while the rows there are."""

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
"""How many waiting rows are read, as a multiple of an update, so that other people's are found. The
second applies where too few of the first may be taken, or all are newcomers', as other people's
rows may wait behind them."""
COMPARED = 1024
"""Newest rows of a domain by which people are compared."""
SHOWN = 512
"""Most rows of a domain that its teacher shows to a student."""


@dataclass(frozen=True, slots=True)
class Next:
    """Ledger rows of the next update, by number."""

    domain: str
    rows: tuple[int, ...]
    replayed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Compared:
    """The result of comparing people."""

    waiting: list[Entry]
    let_through: Mapping[int, float]
    held: Mapping[int, Sequence[str]]
    """Why rows are held back, by row number."""

    def by_person(self, domain: str) -> list[HeldBack]:
        """The held-back rows of each person, and why."""
        rows, why = Counter[int](), dict[int, set[str]]()
        for entry in self.waiting:
            if entry.seq in self.held:
                rows[entry.voter] += 1
                why.setdefault(entry.voter, set()).update(self.held[entry.seq])
        return [
            HeldBack(domain, voter, rows[voter], "; ".join(sorted(why[voter])))
            for voter in sorted(rows)
        ]


def shown_by(
    connection: Connection, consolidation: Consolidation, seed: int
) -> dict[str, list[int]]:
    """For each domain, rows on which its adapter teaches a student: a uniform sample of those it
    has learned, in ledger order."""
    shown = {}
    for domain in (update.domain for update in consolidating.taught_in(connection)):
        learned = planning.learned(connection, domain)
        draw = random.Random(f"{seed} {consolidation.id} {domain}")
        shown[domain] = sorted(draw.sample(learned, min(SHOWN, len(learned))))
    return shown


class Planner:
    """Chooses rows in ledger order, nobody's above their share.

    Args:
        rows: rows per update.
        max_wait_s: seconds after which fewer are taken, with at most as many learned before.
        seed: chooses the rows that are replayed.
        gate: thresholds for holding rows back; without it nobody is compared.
    """

    def __init__(
        self, rows: int, max_wait_s: float, seed: int, gate: GateConfig | None = None
    ) -> None:
        self._rows, self._max_wait_s, self._seed = rows, max_wait_s, seed
        self._gate = gate
        self._of_newcomers = (gate or GateConfig()).newcomers
        self._due = math.inf
        """When the first row of the current domain will have waited long enough."""
        self._known: dict[str, _Compared] = {}
        """Per domain, the last comparison of people, which is too slow for every poll."""
        self._marks: dict[str, tuple[int, int]] = {}
        """Per domain, how many updates had given their rows back, and the row before the first that
        waits: earlier rows are not read while that count is the same."""
        self._quiet: dict[str, tuple[tuple[Any, ...], float]] = {}
        """Per domain with nothing to learn, what that depends on, and until when it holds: checking
        thousands of domains is too slow for one poll."""
        self._seen: dict[tuple[str, int], tuple[tuple[int, ...], list[Entry]]] = {}
        """Per domain and read-ahead, what its waiting rows depend on, and the rows. They are read
        again only when that has changed, as it is slow where many are held back."""

    def next(self, connection: Connection, *, now: float) -> list[Next]:
        """What to learn now: at most one update per domain."""
        through = holding.let_through_until(connection)
        shared_state = planning.marks(connection), people.last_note(connection), through
        plans = []
        for domain in planning.domains(connection):
            depends_on = planning.last_row(connection, domain), *shared_state
            before_then, until = self._quiet.get(domain, ((), 0.0))
            if depends_on == before_then and now < until:
                continue
            self._due = math.inf
            plan = self._in(connection, domain, through, now)
            if plan is not None:
                plans.append(plan)
            self._quiet[domain] = depends_on, -math.inf if plan is not None else self._due
        return plans

    def _in(
        self, connection: Connection, domain: str, through: Mapping[int, float], now: float
    ) -> Next | None:
        if planning.on_the_way(connection, domain) is not None:
            return None  # The next update starts from its end if it is promoted.
        if domain in self._known and self._known[domain].let_through != through:
            del self._known[domain]  # Rows held back may be free now, and enough with the rest.
        enough = self._rows + self._held(domain)
        for ahead in AHEAD:
            waiting = self._waiting(connection, domain, ahead)
            voters = {entry.voter for entry in waiting}
            new = planning.newcomers(connection, voters, fewer=SETTLED, at=now)
            full = len(self._fair(waiting, enough, new)) == enough
            if (full and voters - new) or len(waiting) < ahead * self._rows:
                break
        if not (full or self._late(waiting, now)):
            return None
        free = self._free(connection, domain, waiting, through, new, now)
        new_rows = tuple(entry.seq for entry in self._fair(free, self._rows, new))
        if len(new_rows) == self._rows:
            return Next(domain, new_rows)
        if not new_rows or not self._late(free, now):
            return None
        before = planning.learned(connection, domain)
        # At most as many old rows as new: where few vote, each would be learned dozens of times.
        count = min(self._rows - len(new_rows), len(new_rows), len(before))
        replayed = random.Random(f"{self._seed} {new_rows[0]}").sample(before, count)
        return Next(domain, new_rows, tuple(sorted(replayed)))

    def look_again(self) -> None:
        """Discard what was read before: a row no longer waits, as its vote was taken back."""
        self._seen.clear()
        self._quiet.clear()

    def held_back(self) -> dict[str, list[HeldBack]]:
        """Per domain, whose rows were held back when people were last compared, and why."""
        return {domain: known.by_person(domain) for domain, known in self._known.items()}

    def _late(self, rows: Sequence[Entry], now: float) -> bool:
        """True if the first row has waited long enough. Also records when that is."""
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
        """Rows not held back; people are compared only if the waiting rows have changed."""
        known = self._known.get(domain)
        if known is None or known.waiting != waiting:
            why = self._reasons(connection, domain, new, now)
            known = _Compared(waiting, through, held_back(waiting, why, through))
            self._known[domain] = known
        return [entry for entry in waiting if entry.seq not in known.held]

    def _reasons(
        self, connection: Connection, domain: str, new: Set[int], now: float
    ) -> list[Reason]:
        """Reasons to hold rows back, from the newest rows and from gold questions."""
        hold_reasons = list[Reason](unreliable(gold_results(connection)))
        if self._gate is not None:
            rows = planning.newest(connection, domain, until=now, limit=COMPARED)
            hold_reasons += reasons(rows, new, self._gate)
        return hold_reasons

    def _held(self, domain: str) -> int:
        """How many rows were held back when people were last compared."""
        return len(self._known[domain].held) if domain in self._known else 0

    def _waiting(self, connection: Connection, domain: str, ahead: int) -> list[Entry]:
        freed, limit = planning.freed(connection, domain), ahead * self._rows + self._held(domain)
        depends_on = (
            freed, limit, ledger.last_seq(connection), planning.last_planned(connection, domain),
            people.last_note(connection),  # Somebody may have been forgotten.
        )  # fmt: skip
        depended_on, waiting = self._seen.get((domain, ahead), ((), []))
        if depended_on == depends_on:
            return waiting
        freed_then, before = self._marks.get(domain, (freed, 0))
        if freed_then != freed:
            before = 0
        entries = planning.waiting(connection, domain, after=before, limit=limit)
        self._marks[domain] = freed, entries[0].seq - 1 if entries else before
        self._seen[domain, ahead] = depends_on, entries
        return entries
