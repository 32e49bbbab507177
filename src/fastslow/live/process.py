"""The learner's loop: plan, learn, test, promote or set aside, again and again.

Whatever it had begun when it died is learned again from its plan, to the same bits. It writes as
long as it is the store's learner; another one that begins ends it.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.api.learner import Learner
from fastslow.config import LiveConfig, Recipe
from fastslow.errors import ConfigError
from fastslow.feedback import (
    Connection,
    Fenced,
    Store,
    consolidating,
    decisions,
    holding,
    people,
    planning,
    updates,
)
from fastslow.feedback.holding import HeldBack
from fastslow.feedback.places import adapter_folder
from fastslow.feedback.updates import Update
from fastslow.live.evidence import evidence_for
from fastslow.live.gate.gate import PROMOTED, QUARANTINED, WAITS, Evidence
from fastslow.live.gate.surprise import as_expected
from fastslow.live.jobs import REFUSED, Jobs
from fastslow.live.lessons import Adopted, Lesson, forget
from fastslow.live.planner import Planner, shown_by
from fastslow.live.students import Teacher
from fastslow.live.watch import Fall, Watch
from fastslow.training.loop.signals import StopToken

DECISIONS: Mapping[str, Callable[..., Any]] = {
    PROMOTED: decisions.promote,
    WAITS: decisions.wait,
    QUARANTINED: decisions.quarantine,
}
LOOKS_EVERY = 0.5
"""Seconds between two looks at the ledger."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a learner did."""

    update: Update
    lesson: Lesson | Adopted | None
    """None where its rows could not be learned."""
    gate: dict[str, Any]

    def __str__(self) -> str:
        named = f"{self.update.domain}: update {self.update.id} {self.gate['verdict']}"
        if self.lesson is None:
            return f"{named}: {self.gate['why']}"
        faults = [check["said"] for check in self.gate["checks"] if not check["passed"]]
        blind = [] if self.gate["tested"] else ["there are too few held-out votes to test it on"]
        asks = ["approve of it on the page"] if self.gate["verdict"] == WAITS else []
        return "; ".join([f"{named}, {self.lesson}", *faults, *blind, *asks])


class _Stopped(Exception):
    """The learner is to stop while it teaches a student, which it resumes when it begins again."""


Tell = Callable[[Event | Fall], None]
"""Is given what a learner did."""


class LiveLearner:
    """Learns what a store's planner says.

    Args:
        store: the votes.
        folder: the live folder, where checkpoints and adapters go.
        recipe: of the modules, the objective, the chase and the budget, and `live`.
        jobs: what learns and tests; None makes it, for this process alone.

    Raises ConfigError for settings that have no effect here.
    """

    def __init__(
        self, store: Store, folder: Path, recipe: Recipe, jobs: Jobs | None = None
    ) -> None:
        live = recipe.live or LiveConfig()
        self._store, self._folder = store, folder
        self._planner = Planner(live.rows, live.max_wait_s, recipe.seed, live.gate)
        self._jobs = jobs or Jobs(folder, recipe)
        self._watch = Watch(live.gate.undone_from)
        self._limits, self._seed = live.gate, recipe.seed
        self._keep, self._promotion = live.keep, live.promotion
        self._number = store.write(planning.claim)
        self._note: int | None = None
        """The last one that was looked at."""

    @property
    def learner(self) -> Learner:
        """What has learned; between two updates it may be anywhere in any domain."""
        return self._jobs.learner

    def run(self, stop: StopToken, tell: Tell) -> None:
        """Learn until it is stopped. Raises Fenced where another learner has begun."""
        while not stop.received:
            done = self.once(tell, stop)
            if not done:
                time.sleep(LOOKS_EVERY)
            self._jobs.look(stop)

    def once(self, tell: Tell, stop: StopToken | None = None) -> int:
        """Undo what has fallen, learn what was left or waits now; how many updates were decided."""
        done = 0
        self._forget_after_decisions()
        for fall in self._fallen():
            self._undo(fall)
            tell(fall)
        stop = stop or StopToken()
        for update in self._left() or self._consolidated() or self._planned():
            if stop.received:
                break
            try:
                tell(self._learn(update, stop))
            except _Stopped:
                break
            except Fenced:
                if not self._is_learner():
                    raise
                continue  # What it was based on was undone; its rows wait again.
            done += 1
        with self._store.read() as connection:
            unfinished = consolidating.unfinished(connection)
        self._jobs.students.forget_all_but(unfinished)
        return done

    def _fallen(self) -> list[Fall]:
        with self._store.read() as connection:
            return self._watch.look(connection)

    def _undo(self, fall: Fall) -> None:
        facts = {"update_id": fall.update_id, "now": time.time(), "why": fall.said}
        self._store.write(decisions.undo_fallen, learner=self._number, **facts)

    def _left(self) -> list[Update]:
        with self._store.read() as connection:
            # A look that finds nothing takes no lock from those who vote.
            if not planning.undecided(connection) and planning.is_learner(connection, self._number):
                return []
        return self._store.write(planning.resume, learner=self._number)

    def _consolidated(self) -> list[Update]:
        """The updates of a student that is wanted, planned if nothing stands in the way."""
        with self._store.read() as connection:
            found = consolidating.wanted(connection)
            if found is None:
                return []
            why = self._jobs.no_student or consolidating.hindrance(connection)
            shown = shown_by(connection, found, self._seed)
        own = {"learner": self._number, "number": found.id}
        if why is not None:
            if why != found.why:
                self._store.write(consolidating.put_off, why=why, **own)
            return []
        try:
            return self._store.write(consolidating.plan, shown=shown, now=time.time(), **own)
        except Fenced:
            if not self._is_learner():
                raise
            return []

    def _planned(self) -> list[Update]:
        with self._store.read() as connection:
            found = self._planner.next(connection, now=time.time())
            changed = [
                (domain, held)
                for domain, held in self._planner.held_back().items()
                if held != holding.held_in(connection, domain)
            ]
        for domain, held in changed:
            facts = {"domain": domain, "found": held, "now": time.time()}
            self._store.write(holding.hold, learner=self._number, **facts)
        made = []
        for one in found:
            facts = {"domain": one.domain, "rows": one.rows, "replayed": one.replayed}
            try:
                made.append(
                    self._store.write(planning.plan, learner=self._number, now=time.time(), **facts)
                )
            except Fenced:
                if not self._is_learner():
                    raise
                self._planner.look_again()
        return made

    def _learn(self, update: Update, stop: StopToken) -> Event:
        own = {"learner": self._number, "update_id": update.id}
        self._store.write(planning.move, state="learning", **own)
        with self._store.read() as connection:
            evidence = evidence_for(connection, update, self._limits)
        try:
            lesson = self._lesson(update, stop)
        except (*REFUSED, ConfigError) as error:
            self._store.write(planning.move, state="candidate", **own)
            self._store.write(planning.move, state="gating", **own)
            gate = {"verdict": QUARANTINED, "why": str(error), "checks": []}
            self._store.write(decisions.quarantine, gate=gate, **own)
            return Event(update, None, gate)
        facts = {
            "adapter": lesson.adapter, "adapter_sha256": lesson.adapter_sha256,
            "checkpoint": lesson.checkpoint,
        }  # fmt: skip
        self._store.write(planning.move, state="candidate", **own, **facts)
        self._store.write(planning.move, state="gating", **own)
        gate = self._tested(update, lesson, evidence)
        self._store.write(DECISIONS[str(gate["verdict"])], gate=gate, **own)
        self._forget_old(update.domain)
        return Event(update, lesson, gate)

    def _lesson(self, update: Update, stop: StopToken) -> Lesson | Adopted:
        before = self._module_of(update.parent)
        if update.consolidation_id is None:
            with self._store.read() as connection:
                rows = updates.rows_of(connection, update.id)
                num_new = updates.num_new(connection, update.id)
            return self._jobs.learn(update, rows, num_new, before)

        def go_on() -> None:
            if stop.received:
                raise _Stopped
            with self._store.read() as connection:
                if updates.update_of(connection, update.id).state != "learning":
                    raise Fenced(f"update {update.id} was given up")
            if not self._is_learner():
                raise Fenced("another learner has begun; this one teaches no more")

        number = update.consolidation_id
        return self._jobs.adopt(update, number, self._teachers(number), go_on, before)

    def _teachers(self, number: int) -> list[Teacher]:
        """What answered in the domains of a consolidation when it was planned."""
        found = []
        with self._store.read() as connection:
            for one in consolidating.updates_of(connection, number):
                adapter = self._adapter(connection, one.parent)
                assert one.parent is not None and adapter is not None
                rows = updates.rows_of(connection, one.id)
                found.append(Teacher(one.domain, one.parent, adapter, rows))
        return found

    def _forget_old(self, domain: str) -> None:
        """Remove what is too old to be gone back to: first in the store, then on disk."""
        for one in self._store.write(
            decisions.forget_old, learner=self._number, domain=domain, keep=self._keep
        ):
            forget(self._folder, one)

    def _forget_after_decisions(self) -> None:
        """Remove from the disk what is not kept, where an admin has decided something: somebody may
        have been forgotten."""
        with self._store.read() as connection:
            note = people.last_note(connection)
            gone = [] if note == self._note else updates.not_kept(connection)
        for one in gone:
            forget(self._folder, one)
        self._note = note

    def _tested(
        self, update: Update, lesson: Lesson | Adopted, evidence: Evidence
    ) -> dict[str, Any]:
        with self._store.read() as connection:
            route = updates.route_of(connection, update.domain)
            champion, anchor = (
                self._adapter(connection, number) for number in (route.update_id, route.anchor_id)
            )
            before = updates.history(
                connection, update.domain, states=updates.SERVED, limit=self._keep or 1
            )
        more, about = [], dict[str, Any]()
        people = Counter(row["voter"] for row in evidence.learned)
        facts = {
            "people": len(people), "largest_share": max(people.values()) / people.total(),
            "leader": lesson.module, "strength": lesson.strength,
        }  # fmt: skip
        if isinstance(lesson, Adopted):
            of_student = {"teachers": list(lesson.student.teachers), "kl": lesson.student.kl}
            about["taught"] = {**facts, **of_student, "shown": len(evidence.learned)}
        else:
            right = round(lesson.accuracy * lesson.judged)
            learned = [one for one in before if "learned" in one.gate]
            with self._store.read() as connection:
                held = holding.held_in(connection, update.domain)
            more.append(as_expected(right, lesson.judged, learned, p=self._limits.surprise_p))
            about["learned"] = {
                **facts, "rows": lesson.learned, "judged": lesson.judged,
                "notes": [*lesson.notes, *(_waits(one) for one in held)],
                "loss": lesson.loss, "accuracy": lesson.accuracy,
            }  # fmt: skip
        candidate = adapter_folder(self._folder, lesson.adapter)
        takes_over = self._module_of(update.parent) not in (None, lesson.module)
        verdict = self._jobs.test(
            candidate, champion, anchor, evidence, *more, takes_over=takes_over
        )
        return {**verdict.facts(self._promotion), **about}

    def _adapter(self, connection: Connection, number: int | None) -> Path | None:
        """The folder of an update's adapter; None of the base."""
        name = None if number is None else updates.update_of(connection, number).adapter
        return None if name is None else adapter_folder(self._folder, name)

    def _module_of(self, number: int | None) -> str | None:
        """Which of the learner's modules an update made answer."""
        if number is None:
            return None
        with self._store.read() as connection:
            gate = updates.update_of(connection, number).gate
        return str((gate.get("learned") or gate["taught"])["leader"])

    def _is_learner(self) -> bool:
        with self._store.read() as connection:
            return planning.is_learner(connection, self._number)


def _waits(held: HeldBack) -> str:
    """What a record says of rows that are held back."""
    return f"{held.rows} rows of person {held.voter} wait: {held.said}"
