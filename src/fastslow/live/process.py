"""The learner's loop: plan an update, learn it, test it, then promote or quarantine it.

An update that was unfinished when the process died is learned again from its plan, to the same
bits. The process writes only while it is the store's learner, and ends when another one begins.
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
"""Seconds between two polls of the ledger."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a learner did with an update."""

    update: Update
    lesson: Lesson | Adopted | None
    """None if its rows could not be learned."""
    gate: dict[str, Any]

    def __str__(self) -> str:
        named = f"{self.update.domain}: update {self.update.id} {self.gate['verdict']}"
        if self.lesson is None:
            return f"{named}: {self.gate['why']}"
        faults = [check["said"] for check in self.gate["checks"] if not check["passed"]]
        blind = [] if self.gate["tested"] else ["too few held-out votes to test it"]
        asks = ["approve it on the page"] if self.gate["verdict"] == WAITS else []
        return "; ".join([f"{named}, {self.lesson}", *faults, *blind, *asks])


class _Stopped(Exception):
    """The learner must stop while it teaches a student; it resumes teaching at its next start."""


Tell = Callable[[Event | Fall], None]
"""Called with each thing that a learner did."""


class LiveLearner:
    """Learns the updates that a planner chooses from a store's votes.

    Args:
        store: the votes.
        folder: the live folder, where checkpoints and adapters go.
        recipe: modules, objective, chase, budget and `live`.
        jobs: learns and tests; None makes one for this process alone.

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
        """The last note of an admin's decision that was handled."""

    @property
    def learner(self) -> Learner:
        """The learner that is trained; between two updates it may be at any point of any domain."""
        return self._jobs.learner

    def run(self, stop: StopToken, tell: Tell) -> None:
        """Learn until stopped. Raises Fenced if another learner has begun."""
        while not stop.received:
            done = self.once(tell, stop)
            if not done:
                time.sleep(LOOKS_EVERY)
            self._jobs.look(stop)

    def once(self, tell: Tell, stop: StopToken | None = None) -> int:
        """Undo fallen updates, then learn what is unfinished or waits. Returns the number of
        updates decided."""
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
                continue  # Its parent was undone; its rows wait again.
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
            # Check first without the write lock, which voters need.
            if not planning.undecided(connection) and planning.is_learner(connection, self._number):
                return []
        return self._store.write(planning.resume, learner=self._number)

    def _consolidated(self) -> list[Update]:
        """The updates of a requested student, planned unless something hinders it."""
        with self._store.read() as connection:
            request = consolidating.wanted(connection)
            if request is None:
                return []
            why = self._jobs.no_student or consolidating.hindrance(connection)
            shown = shown_by(connection, request, self._seed)
        ids = {"learner": self._number, "number": request.id}
        if why is not None:
            if why != request.why:
                self._store.write(consolidating.put_off, why=why, **ids)
            return []
        try:
            return self._store.write(consolidating.plan, shown=shown, now=time.time(), **ids)
        except Fenced:
            if not self._is_learner():
                raise
            return []

    def _planned(self) -> list[Update]:
        with self._store.read() as connection:
            plans = self._planner.next(connection, now=time.time())
            changed = [
                (domain, held)
                for domain, held in self._planner.held_back().items()
                if held != holding.held_in(connection, domain)
            ]
        for domain, held in changed:
            facts = {"domain": domain, "found": held, "now": time.time()}
            self._store.write(holding.hold, learner=self._number, **facts)
        planned = []
        for plan in plans:
            facts = {"domain": plan.domain, "rows": plan.rows, "replayed": plan.replayed}
            try:
                planned.append(
                    self._store.write(planning.plan, learner=self._number, now=time.time(), **facts)
                )
            except Fenced:
                if not self._is_learner():
                    raise
                self._planner.look_again()
        return planned

    def _learn(self, update: Update, stop: StopToken) -> Event:
        ids = {"learner": self._number, "update_id": update.id}
        self._store.write(planning.move, state="learning", **ids)
        with self._store.read() as connection:
            evidence = evidence_for(connection, update, self._limits)
        try:
            lesson = self._lesson(update, stop)
        except (*REFUSED, ConfigError) as error:
            self._store.write(planning.move, state="candidate", **ids)
            self._store.write(planning.move, state="gating", **ids)
            gate = {"verdict": QUARANTINED, "why": str(error), "checks": []}
            self._store.write(decisions.quarantine, gate=gate, **ids)
            return Event(update, None, gate)
        facts = {
            "adapter": lesson.adapter, "adapter_sha256": lesson.adapter_sha256,
            "checkpoint": lesson.checkpoint,
        }  # fmt: skip
        self._store.write(planning.move, state="candidate", **ids, **facts)
        self._store.write(planning.move, state="gating", **ids)
        gate = self._tested(update, lesson, evidence)
        self._store.write(DECISIONS[str(gate["verdict"])], gate=gate, **ids)
        self._forget_old(update.domain)
        return Event(update, lesson, gate)

    def _lesson(self, update: Update, stop: StopToken) -> Lesson | Adopted:
        before = self._module_of(update.parent)
        if update.consolidation_id is None:
            with self._store.read() as connection:
                rows = updates.rows_of(connection, update.id)
                num_new = updates.num_new(connection, update.id)
            return self._jobs.learn(update, rows, num_new, before)

        def check_running() -> None:
            if stop.received:
                raise _Stopped
            with self._store.read() as connection:
                if updates.update_of(connection, update.id).state != "learning":
                    raise Fenced(f"update {update.id} was given up")
            if not self._is_learner():
                raise Fenced("another learner has started; this one stops teaching")

        number = update.consolidation_id
        return self._jobs.adopt(update, number, self._teachers(number), check_running, before)

    def _teachers(self, number: int) -> list[Teacher]:
        """The adapters that answered in a consolidation's domains when it was planned."""
        teachers = []
        with self._store.read() as connection:
            for update in consolidating.updates_of(connection, number):
                adapter = self._adapter(connection, update.parent)
                assert update.parent is not None and adapter is not None
                rows = updates.rows_of(connection, update.id)
                teachers.append(Teacher(update.domain, update.parent, adapter, rows))
        return teachers

    def _forget_old(self, domain: str) -> None:
        """Remove updates too old to roll back to: first from the store, then from disk."""
        for update in self._store.write(
            decisions.forget_old, learner=self._number, domain=domain, keep=self._keep
        ):
            forget(self._folder, update)

    def _forget_after_decisions(self) -> None:
        """After an admin's decision, remove from disk what is not kept: somebody may have been
        forgotten."""
        with self._store.read() as connection:
            note = people.last_note(connection)
            gone = [] if note == self._note else updates.not_kept(connection)
        for update in gone:
            forget(self._folder, update)
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
        more, record = [], dict[str, Any]()
        voters = Counter(row["voter"] for row in evidence.learned)
        facts = {
            "people": len(voters), "largest_share": max(voters.values()) / voters.total(),
            "leader": lesson.module, "strength": lesson.strength,
        }  # fmt: skip
        if isinstance(lesson, Adopted):
            of_student = {"teachers": list(lesson.student.teachers), "kl": lesson.student.kl}
            record["taught"] = {**facts, **of_student, "shown": len(evidence.learned)}
        else:
            right = round(lesson.accuracy * lesson.judged)
            learned = [past for past in before if "learned" in past.gate]
            with self._store.read() as connection:
                held = holding.held_in(connection, update.domain)
            more.append(as_expected(right, lesson.judged, learned, p=self._limits.surprise_p))
            record["learned"] = {
                **facts, "rows": lesson.learned, "judged": lesson.judged,
                "notes": [*lesson.notes, *(_waits(rows) for rows in held)],
                "loss": lesson.loss, "accuracy": lesson.accuracy,
            }  # fmt: skip
        candidate = adapter_folder(self._folder, lesson.adapter)
        takes_over = self._module_of(update.parent) not in (None, lesson.module)
        verdict = self._jobs.test(
            candidate, champion, anchor, evidence, *more, takes_over=takes_over
        )
        return {**verdict.facts(self._promotion), **record}

    def _adapter(self, connection: Connection, number: int | None) -> Path | None:
        """The folder of an update's adapter; None for the base."""
        name = None if number is None else updates.update_of(connection, number).adapter
        return None if name is None else adapter_folder(self._folder, name)

    def _module_of(self, number: int | None) -> str | None:
        """The learner's module that answers after an update; None for the base."""
        if number is None:
            return None
        with self._store.read() as connection:
            gate = updates.update_of(connection, number).gate
        return str((gate.get("learned") or gate["taught"])["leader"])

    def _is_learner(self) -> bool:
        with self._store.read() as connection:
            return planning.is_learner(connection, self._number)


def _waits(held: HeldBack) -> str:
    """The line in a record about rows that are held back."""
    rows = f"{held.rows} row{'' if held.rows == 1 else 's'}"
    return f"{rows} from person {held.voter} held back: {held.said}"
