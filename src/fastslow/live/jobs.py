"""Jobs that a learner's processes do together: learn an update, test it.

The main process knows the store and announces each job. The others do the same job at the same
time, each on its share of every batch, and write nothing.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastslow.api.learner import Learner
from fastslow.config import LiveConfig, Recipe
from fastslow.errors import ConfigError, DataError, NonFiniteError
from fastslow.feedback.ledger import Entry
from fastslow.feedback.updates import Update
from fastslow.live.gate.check import Check
from fastslow.live.gate.gate import Evidence, Gate, Verdict
from fastslow.live.lessons import Adopted, Lesson, Lessons
from fastslow.live.settings import check_live
from fastslow.live.students import Students, Teacher
from fastslow.training.budget.answer_kl import longest_answer
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.loop.signals import StopToken

REFUSED = (DataError, NonFiniteError)
"""Errors that refuse rows; all processes raise them."""
END = "end"
ALONE = "a student can only be taught by one process; start the learner without torchrun"
SHARDED = (
    "launcher: a sharded base (--use_fsdp) cannot learn from votes as they come; launch without "
    "it, so that every process has the whole base"
)


class Jobs:
    """Learns and tests; every process makes one. All but the main one call `follow`.

    Args:
        folder: the live folder, on a disk that all processes share.
        recipe: modules, objective, chase, budget and `live`.

    Raises ConfigError for settings that have no effect here.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        check_live(recipe)
        limits = (recipe.live or LiveConfig()).gate
        self._processes = processes = ProcessGroup(recipe.train.device)
        if processes.sharded:
            raise ConfigError(SHARDED)
        processes.broadcast_from_main(lambda: folder.mkdir(parents=True, exist_ok=True))
        processes.check_shared(folder, what="DIR")
        # Only the main process writes non-finite batches to the live folder.
        self._scratch = None if self.is_main else tempfile.TemporaryDirectory(prefix="fastslow-")
        output_dir = str(folder) if self._scratch is None else self._scratch.name
        # A checkpoint needs a learner with the same settings, except for these.
        changes: dict[str, Any] = {"live": None, "output_dir": output_dir}
        self.learner = Learner.from_recipe(recipe.model_copy(update=changes))
        if (budget := self.learner.core.budget) is not None:
            budget.each_alone = True
        self._lessons = Lessons(self.learner, folder, batch_size=recipe.train.batch_size)
        self.students = Students(self.learner, folder)
        self._gate = Gate(
            self.learner, limits=limits, longest=longest_answer(recipe), seed=recipe.seed
        )
        self._together = False
        """True while the processes do a job and cannot be given another."""

    @property
    def is_main(self) -> bool:
        """True if this process announces the jobs."""
        return self._processes.rank == 0

    @property
    def company(self) -> str:
        """The number of processes, for a message; empty if there is one."""
        size = self._processes.size
        return f" in {size} processes" if size > 1 else ""

    def learn(
        self, update: Update, rows: Sequence[Entry], num_new: int, before: str | None
    ) -> Lesson:
        """Learn an update's rows; see `Lessons.learn`."""
        facts = {"num_new": num_new, "before": before}
        with self._job("learn", update=asdict(update), rows=[*map(asdict, rows)], **facts):
            return self._lessons.learn(update, rows, num_new, before)

    @property
    def no_student(self) -> str | None:
        """Why no student can be taught; None if one can."""
        return ALONE if self._processes.size > 1 else None

    def adopt(
        self,
        update: Update,
        number: int,
        teachers: Sequence[Teacher],
        check_running: Callable[[], None],
        before: str | None,
    ) -> Adopted:
        """Teach a consolidation's student and adopt it; see `Students.taught` and `Lessons.adopt`.

        Raises ConfigError if there are several processes.
        """
        if self.no_student is not None:
            raise ConfigError(self.no_student)
        student = self.students.taught(number, teachers, check_running)
        return self._lessons.adopt(update, student, before)

    def test(
        self,
        candidate: Path,
        champion: Path | None,
        anchor: Path | None,
        evidence: Evidence,
        *more: Check,
        takes_over: bool,
    ) -> Verdict:
        """The gate's verdict on an adapter; see `Gate.test`."""
        folders = [folder and str(folder) for folder in (candidate, champion, anchor)]
        with self._job("test", folders=folders, evidence=asdict(evidence)):
            return self._gate.test(
                candidate, champion, anchor, evidence, *more, takes_over=takes_over
            )

    def look(self, stop: StopToken) -> None:
        """Tell the other processes that there is nothing to do yet; stop if one of them was told to
        stop."""
        if self._processes.size > 1:
            with self._job("look"):
                self._stop_together(stop)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Let the other processes end after the block. If it fails in the middle of a job, they
        fail like this process, or their launcher ends them."""
        try:
            yield
        finally:
            if not self._together:
                self._announce(END, {})

    def follow(self, stop: StopToken) -> None:
        """Do the jobs that the main process announces, until it ends."""
        while (job := self._next_job())[0] != END:
            what, facts = job
            with suppress(*REFUSED):  # The main process handles the refusal.
                FOLLOWED[what](self, stop, **facts)

    def _learn_too(self, _: StopToken, update: Any, rows: Any, **facts: Any) -> None:
        self._lessons.learn(Update(**update), [Entry(**row) for row in rows], **facts)

    def _test_too(self, _: StopToken, folders: Any, evidence: Any) -> None:
        candidate, champion, anchor = (folder and Path(folder) for folder in folders)
        self._gate.test(candidate, champion, anchor, Evidence(**evidence))

    def _stop_together(self, stop: StopToken) -> None:
        if self._processes.any(stop.received):
            stop.stop("another of its processes was told to stop")

    @contextmanager
    def _job(self, what: str, **facts: Any) -> Iterator[None]:
        self._announce(what, facts)
        self._together = True
        try:
            yield
        except REFUSED:
            self._together = False
            raise
        self._together = False

    def _announce(self, what: str, facts: dict[str, Any]) -> None:
        self._processes.broadcast_from_main(lambda: [what, facts])

    def _next_job(self) -> tuple[str, dict[str, Any]]:
        job: Any = self._processes.broadcast_from_main(lambda: None)
        return job[0], job[1]


FOLLOWED: dict[str, Callable[..., None]] = {
    "learn": Jobs._learn_too,
    "test": Jobs._test_too,
    "look": Jobs._stop_together,
}
