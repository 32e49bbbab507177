"""One update: from what its domain serves, by the planned rows, to an adapter."""

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
"""Loss of a vote of which a module says nothing, nats."""
OF_UPDATE = "update"
TESTED = "tested"
RATING = "rating"
OF_RATINGS = "kto"
"""What ratings are learned by; comparisons and edits by the recipe's objective."""


@dataclass(frozen=True, slots=True)
class Made:
    """What an update has come to, on disk."""

    adapter: str
    adapter_sha256: str
    checkpoint: str
    module: str
    """The one that is to answer."""
    strength: float
    """What its update was multiplied by, to be within the KL budget."""


@dataclass(frozen=True, slots=True)
class Lesson(Made):
    """What learning an update's rows came to."""

    learned: int
    """Rows, the replayed among them."""
    notes: tuple[str, ...]
    """Why others were not, and what else was told."""
    judged: int
    """Rows that loss and accuracy are of: new comparisons, before any of them was learned, by the
    module that answered; where there are none, ratings as they were learned."""
    loss: float
    """Nats."""
    accuracy: float
    """Share of comparisons that were predicted, a half of those that were not at all."""

    def __str__(self) -> str:
        return f"{self.learned} rows, accuracy {self.accuracy:.2f} before learning"


@dataclass(frozen=True, slots=True)
class Adopted(Made):
    """What a student has become in a domain."""

    student: Student

    def __str__(self) -> str:
        teachers = ", ".join(map(str, self.student.teachers))
        return f"a student of updates {teachers}, {self.student.kl:.2f} nats per response from them"


@dataclass(slots=True)
class _Sums:
    """What steps came to."""

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
    """The same of comparisons, by their losses."""
    hits = sum(loss < NOTHING_KNOWN for loss in losses)
    halves = sum(loss == NOTHING_KNOWN for loss in losses)
    accuracy = (hits + halves / 2) / len(losses)
    return {"judged": len(losses), "loss": fmean(losses), "accuracy": accuracy}


class Lessons:
    """A learner that goes from one domain's update to another's.

    Args:
        learner: not used by anybody else. Of several processes all learn and the main one writes.
        folder: the live folder.
        batch_size: rows of an optimiser step.
    """

    def __init__(self, learner: Learner, folder: Path, *, batch_size: int) -> None:
        self._learner, self._folder, self._batch_size = learner, folder, batch_size
        self._processes = learner.core.processes
        self._fresh = learner.snapshot()
        self._losses: Losses = {}
        """On new votes, as of `tested`, up to where the learner is."""
        self._at: tuple[str, int | None] | None = None
        """The domain, and its update, that the learner is at the end of."""

    def learn(
        self, update: Update, rows: Sequence[Entry], num_new: int, before: str | None
    ) -> Lesson:
        """Learn the rows from where the update's parent ended; writes the checkpoint and adapter.

        What answers is what the next update begins at: modules beyond the KL budget are scaled
        down, and not only the copy that is served.

        The same update learns the same bits, whatever was learned before.

        Args:
            num_new: how many of the rows, the first ones, were never learned.
            before: the module that answered until now, which still does unless another predicts
                new votes better; None where none did, and the first one does, the fast one: the
                race is a coin's toss after a few steps.

        Raises StateError where the parent's checkpoint is gone, NonFiniteError where the rows give
        numbers that are not, DataError where none of them is usable.
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
        """Be what the update's parent ended with, but for the modules, which all become a student:
        votes are learned from what answers, and it is to answer.

        What optimisers remember was of other weights. Raises as `learn`.
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
        """Test all modules on votes before they are learned."""
        found = tested(self._learner, new)
        self._losses = {
            name: [*self._losses.get(name, ()), *own][-NEWEST:] for name, own in found.items()
        }
        return found

    def _finish(self, update: Update, before: str | None) -> Made:
        """Within the budget, on disk."""
        strengths = self._learner.pull_back()
        self._check_same()
        chosen = chosen_module(self._losses, before or self._learner.modules[0])
        if before not in (None, chosen):
            self._losses = {}  # What spoke for it does not speak against it for as long again.
        checkpoint = self._keep(update)
        name, digest = self._publish(update, chosen)
        self._at = (update.domain, update.id)
        return Made(name, digest, checkpoint, chosen, strengths[chosen])

    def _learn(self, rows: Sequence[Any]) -> "_Sums":
        found = _Sums()
        for batch in _batches(rows, self._batch_size):
            try:
                # A few ratings are a batch of their own, and are to weigh no more than votes.
                found.add(self._learner.step(batch, full=self._batch_size))
            except DataError as error:
                found.notes.append(str(error))
        return found

    def _go_to(self, domain: str, update_id: int | None) -> None:
        """Be what an update ended with; what was never learned on for None."""
        if self._at == (domain, update_id):
            return
        self._at = None
        kept = self._fresh if update_id is None else self._kept(domain, update_id)
        self._learner.restore(kept)
        self._losses = kept.facts.get(TESTED, {})  # Checkpoints of before have none.
        self._at = (domain, update_id)

    def _kept(self, domain: str, update_id: int) -> Snapshot:
        folder = checkpoints(self._folder, domain, update_id)
        snapshot, faults = read_newest(folder)
        if snapshot is None or snapshot.facts.get(OF_UPDATE) != update_id:
            why = "; ".join(faults) or "there is none"
            raise StateError(f"{folder}: no checkpoint of update {update_id} to begin at: {why}")
        return snapshot

    def _check_same(self) -> None:
        """Raises StateError where several processes did not learn the same."""
        modules = self._learner.core.policies.modules
        if self._processes.size > 1:
            self._processes.check_same(modules.digest(*self._learner.modules))

    def _keep(self, update: Update) -> str:
        """Write a checkpoint; its place in the folder."""

        def write() -> str:
            found = self._learner.snapshot()
            snapshot = Snapshot(
                found.tensors, {**found.facts, OF_UPDATE: update.id, TESTED: self._losses}
            )
            to = checkpoints(self._folder, update.domain, update.id)
            to.mkdir(parents=True, exist_ok=True)
            path = write_checkpoint(to, self._learner.num_steps, snapshot, keep=1)
            return str(path.relative_to(self._folder))

        return self._processes.broadcast_from_main(write)

    def _publish(self, update: Update, module: str) -> tuple[str, str]:
        """Write a module as a folder that never changes; its name and the hash of its weights."""
        name, digest = self._processes.broadcast_from_main(partial(self._write, update, module))
        return name, digest

    def _write(self, update: Update, module: str) -> list[str]:
        draft = adapter_folder(self._folder, f".u{update.id}")
        publish_module(self._learner.core.policies.modules, module, draft)
        digest = file_hash(draft / ADAPTER_WEIGHTS)
        name = adapter_name(update.domain, update.id, digest)
        to = adapter_folder(self._folder, name)
        if to.exists():  # Learned once more after a stop, to the same bits.
            shutil.rmtree(draft)
        else:
            draft.rename(to)
        return [name, digest]


def forget(folder: Path, update: Update) -> None:
    """Remove the checkpoint and the adapter of an update."""
    shutil.rmtree(checkpoints(folder, update.domain, update.id), ignore_errors=True)
    # Of one that was given up while it was learned the store has no name.
    for path in folder.glob(f"{ADAPTERS}/{adapter_name(update.domain, update.id, '?' * 12)}"):
        shutil.rmtree(path, ignore_errors=True)


def _batches(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Batches of like sizes, each with its share of the first and of the last rows: the replayed
    come last."""
    count = -(-len(rows) // size)
    return [rows[place::count] for place in range(count)]
