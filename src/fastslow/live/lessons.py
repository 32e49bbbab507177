"""Learns one update: from what its domain serves, through the planned rows, to a new adapter."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from fastslow.adapters import Factors
from fastslow.api.learner import Learner
from fastslow.atomic_io import file_hash
from fastslow.errors import DataError, StateError
from fastslow.feedback.ledger import Entry
from fastslow.feedback.places import ADAPTERS, adapter_folder, adapter_name, checkpoints
from fastslow.feedback.updates import Update
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.live.choice import NEWEST, Losses, Row, chosen_module, tested, vote_loss
from fastslow.live.students import Student
from fastslow.training.loop.step_sums import StepResult
from fastslow.training.policies.publish import publish_module
from fastslow.training.state.checkpoint import Snapshot, read_newest, write_checkpoint

NOTHING_KNOWN = vote_loss(0.0, 1.0)
"""Loss of a vote on which a module has no preference, nats."""
OF_UPDATE = "update"
TESTED = "tested"
RATING = "rating"
OF_RATINGS = "kto"
"""Objective for ratings; comparisons and edits are learned by the recipe's."""


@dataclass(frozen=True, slots=True)
class Made:
    """What an update produced on disk."""

    adapter: str
    adapter_sha256: str
    checkpoint: str
    module: str
    """The module that is to answer."""
    strength: float
    """Factor that its update was scaled by to stay within the KL budget."""


@dataclass(frozen=True, slots=True)
class Lesson(Made):
    """The result of learning an update's rows."""

    learned: int
    """Rows learned, including replayed ones."""
    notes: tuple[str, ...]
    """Why other rows were not learned, and other warnings."""
    judged: int
    """Rows behind `loss` and `accuracy`: new comparisons, scored by the module that answered before
    any of them was learned; if there are none, ratings as they were learned."""
    loss: float
    """Nats."""
    accuracy: float
    """Share of comparisons predicted right; those without a preference count a half."""

    def __str__(self) -> str:
        return f"{self.learned} rows, accuracy {self.accuracy:.2f} before learning"


@dataclass(frozen=True, slots=True)
class Adopted(Made):
    """The result of a domain adopting a student."""

    student: Student

    def __str__(self) -> str:
        teachers = ", ".join(map(str, self.student.teachers))
        return f"a student of updates {teachers}, {self.student.kl:.2f} nats per response from them"


@dataclass(slots=True)
class _Sums:
    """Sums over steps."""

    learned: int = 0
    loss: float = 0.0
    hits: float = 0.0
    notes: list[str] = field(default_factory=list)

    def add(self, result: StepResult) -> None:
        self.notes += result.warnings
        self.learned += result.num_examples
        self.loss += result.metrics["loss"] * result.num_examples
        self.hits += result.metrics["accuracy"] * result.num_examples

    def judged(self) -> dict[str, Any]:
        """How many were learned, and how well they were predicted."""
        of = self.learned or 1
        return {"judged": self.learned, "loss": self.loss / of, "accuracy": self.hits / of}


def _judged(losses: Sequence[float]) -> dict[str, Any]:
    """The same for comparisons, from their losses."""
    hits = sum(loss < NOTHING_KNOWN for loss in losses)
    halves = sum(loss == NOTHING_KNOWN for loss in losses)
    accuracy = (hits + halves / 2) / len(losses)
    return {"judged": len(losses), "loss": fmean(losses), "accuracy": accuracy}


class Lessons:
    """Learns updates with one learner that switches between domains.

    Args:
        learner: used by nothing else. With several processes, all learn and the main one writes.
        folder: the live folder.
        batch_size: rows per optimiser step.
    """

    def __init__(self, learner: Learner, folder: Path, *, batch_size: int) -> None:
        self._learner, self._folder, self._batch_size = learner, folder, batch_size
        self._processes = learner.core.processes
        self._fresh = learner.snapshot()
        self._losses: Losses = {}
        """Losses on new votes, from `tested`, up to the learner's current update."""
        self._at: tuple[str, int | None] | None = None
        """The domain and the update whose final state the learner holds."""

    def learn(
        self, update: Update, rows: Sequence[Entry], num_new: int, before: str | None
    ) -> Lesson:
        """Learn the rows, starting where the update's parent ended; write checkpoint and adapter.

        The next update starts from what is served: modules beyond the KL budget are themselves
        scaled down, not only the served copy.

        The same update learns the same bits, whatever was learned before.

        Args:
            num_new: how many of the rows, counted from the first, were never learned.
            before: the module that answered until now. It still does unless another predicts new
                votes better. If None, the first module answers, the fast one: after a few steps the
                race is a coin toss.

        Raises StateError if the parent's checkpoint is gone, NonFiniteError if the rows give
        non-finite numbers, DataError if no row is usable.
        """
        self._go_to(update.domain, update.parent)
        self._at = None
        new = self._test([row.row for row in rows[:num_new] if row.row and row.kind != RATING])
        of_pairs, of_ratings = self._learn([row.row for row in rows if row.kind != RATING]), _Sums()
        if ratings := [row.row for row in rows if row.kind == RATING]:
            with self._learner.with_objective(OF_RATINGS, beta=self._learner.core.objective.beta):
                of_ratings = self._learn(ratings)
        notes = of_pairs.notes + of_ratings.notes
        if not of_pairs.learned + of_ratings.learned:
            raise DataError("; ".join(notes) or "the update has no rows")
        learned = of_pairs.learned + of_ratings.learned
        losses = new.get(before or self._learner.modules[0], ())
        judged = _judged(losses) if losses else of_ratings.judged()
        made = self._finish(update, before)
        return Lesson(**asdict(made), learned=learned, notes=tuple(notes), **judged)

    def adopt(self, update: Update, student: Student, before: str | None) -> Adopted:
        """Start where the update's parent ended, but set all modules to a student: votes are
        learned from what answers, and the student is to answer.

        Optimiser state belongs to the old weights and is cleared. Raises as `learn`.
        """
        self._go_to(update.domain, update.parent)
        self._at = None
        core, factors = self._learner.core, Factors.read(student.folder)
        for name in self._learner.modules:
            core.policies.modules.load_factors(name, factors)
            core.state.optimizers[name].state.clear()
        self._losses = {}
        return Adopted(**asdict(self._finish(update, before)), student=student)

    def _test(self, new: Sequence[Row]) -> Losses:
        """Score all modules on votes before they are learned."""
        losses = tested(self._learner, new)
        self._losses = {
            name: [*self._losses.get(name, ()), *new_losses][-NEWEST:]
            for name, new_losses in losses.items()
        }
        return losses

    def _finish(self, update: Update, before: str | None) -> Made:
        """Scale modules to the KL budget, choose the one that answers, write both to disk."""
        strengths = self._learner.pull_back()
        self._check_same()
        chosen = chosen_module(self._losses, before or self._learner.modules[0])
        if before not in (None, chosen):
            self._losses = {}  # The losses behind this switch must not delay the next one.
        checkpoint = self._keep(update)
        name, digest = self._publish(update, chosen)
        self._at = (update.domain, update.id)
        return Made(name, digest, checkpoint, chosen, strengths[chosen])

    def _learn(self, rows: Sequence[Any]) -> "_Sums":
        sums = _Sums()
        for batch in _batches(rows, self._batch_size):
            try:
                # A small batch of a few ratings must weigh no more per row than votes.
                sums.add(self._learner.step(batch, full=self._batch_size))
            except DataError as error:
                sums.notes.append(str(error))
        return sums

    def _go_to(self, domain: str, update_id: int | None) -> None:
        """Restore the final state of an update; the untrained state for None."""
        if self._at == (domain, update_id):
            return
        self._at = None
        snapshot = self._fresh if update_id is None else self._kept(domain, update_id)
        self._learner.restore(snapshot)
        self._losses = snapshot.facts.get(TESTED, {})  # Older checkpoints have none.
        self._at = (domain, update_id)

    def _kept(self, domain: str, update_id: int) -> Snapshot:
        folder = checkpoints(self._folder, domain, update_id)
        snapshot, faults = read_newest(folder)
        if snapshot is None or snapshot.facts.get(OF_UPDATE) != update_id:
            why = "; ".join(faults) or "there is none"
            raise StateError(f"{folder}: no checkpoint of update {update_id} to start from: {why}")
        return snapshot

    def _check_same(self) -> None:
        """Raises StateError if several processes did not learn the same."""
        modules = self._learner.core.policies.modules
        if self._processes.size > 1:
            self._processes.check_same(modules.digest(*self._learner.modules))

    def _keep(self, update: Update) -> str:
        """Write a checkpoint; returns its path in the folder."""

        def write() -> str:
            current = self._learner.snapshot()
            snapshot = Snapshot(
                current.tensors, {**current.facts, OF_UPDATE: update.id, TESTED: self._losses}
            )
            to = checkpoints(self._folder, update.domain, update.id)
            to.mkdir(parents=True, exist_ok=True)
            path = write_checkpoint(to, self._learner.num_steps, snapshot, keep=1)
            return str(path.relative_to(self._folder))

        return self._processes.broadcast_from_main(write)

    def _publish(self, update: Update, module: str) -> tuple[str, str]:
        """Write a module to a folder that never changes; returns its name and its weights' hash."""
        name, digest = self._processes.broadcast_from_main(partial(self._write, update, module))
        return name, digest

    def _write(self, update: Update, module: str) -> list[str]:
        draft = adapter_folder(self._folder, f".u{update.id}")
        publish_module(self._learner.core.policies.modules, module, draft)
        digest = file_hash(draft / ADAPTER_WEIGHTS)
        name = adapter_name(update.domain, update.id, digest)
        to = adapter_folder(self._folder, name)
        if to.exists():  # Learned again after a stop, to the same bits.
            shutil.rmtree(draft)
        else:
            draft.rename(to)
        return [name, digest]


def forget(folder: Path, update: Update) -> None:
    """Remove the checkpoint and the adapter of an update."""
    shutil.rmtree(checkpoints(folder, update.domain, update.id), ignore_errors=True)
    # The store has no adapter name for an update that was given up while it was learned.
    for path in folder.glob(f"{ADAPTERS}/{adapter_name(update.domain, update.id, '?' * 12)}"):
        shutil.rmtree(path, ignore_errors=True)


def _batches(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Batches of about equal size, each with its share of the first and of the last rows: replayed
    rows come last."""
    count = -(-len(rows) // size)
    return [rows[place::count] for place in range(count)]
