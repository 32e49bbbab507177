"""Teaches one student from the adapters of several domains, on the learner's own base.

Everything it learns from is fixed by its plan: adapters that never change, and ledger rows. So it
ends at the same bits however often it was interrupted.
"""

import json
import shutil
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.adapters import Factors, combine, recompress
from fastslow.api.learner import Learner
from fastslow.atomic_io import new_folder, write_text
from fastslow.errors import ConfigError, DataError
from fastslow.feedback.ledger import Entry
from fastslow.feedback.places import CONSOLIDATIONS, teaching
from fastslow.foreign_files import read_json
from fastslow.scoring import Encoded
from fastslow.streams.formats import read_row
from fastslow.training.continual.distillation import EXAMPLES, Lesson, distil

STUDENT = "student"
TEACHER = "teacher-"
FACTS = "taught.json"
MOST_STEPS = 500
"""After 300 steps a student of three opposed domains lacked a third of what one of them had
learned, and after 400 almost nothing (LOG.md)."""
TIMES_SHOWN = 16
"""Most times that a row is shown."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """The adapter that answers in a domain."""

    domain: str
    update_id: int
    adapter: Path
    shown: Sequence[Entry]
    """Rows that it has learned, whose answers it scores token by token."""


@dataclass(frozen=True, slots=True)
class Student:
    """One adapter that was taught by several."""

    folder: Path
    """A PEFT folder."""
    teachers: tuple[int, ...]
    """Their update ids."""
    kl: float
    """Final KL to its teachers, nats per response."""


class Students:
    """Teaches on a learner's base, beside its modules.

    Args:
        folder: the live folder.
    """

    def __init__(self, learner: Learner, folder: Path) -> None:
        self._learner, self._folder = learner, folder

    def taught(
        self, number: int, teachers: Sequence[Teacher], check_running: Callable[[], None]
    ) -> Student:
        """The student of a consolidation; teaches it, or resumes teaching, unless that is done.

        `check_running` is called before every step, and raises to stop.
        Raises DataError if no row of a domain can be shown, ConfigError if the modules are on top
        of another adapter.
        """
        place = teaching(self._folder, number)
        folder = place / STUDENT
        if not folder.exists():
            place.mkdir(parents=True, exist_ok=True)
            self._teach(place, folder, teachers, check_running)
        facts = read_json(folder / FACTS, dict[str, Any])
        return Student(folder, tuple(facts["teachers"]), float(facts["kl"]))

    def forget_all_but(self, unfinished: Set[int]) -> None:
        """Remove the students of consolidations that are decided or given up."""
        kept = {teaching(self._folder, number).name for number in unfinished}
        for place in (self._folder / CONSOLIDATIONS).glob("*"):
            if place.name not in kept:
                shutil.rmtree(place, ignore_errors=True)

    def _teach(
        self, place: Path, to: Path, teachers: Sequence[Teacher], check_running: Callable[[], None]
    ) -> None:
        policies, recipe = self._learner.core.policies, self._learner.core.recipe
        modules = policies.modules
        if modules.start is not None:
            raise ConfigError(
                "lora.freeze_start: the serving policy is a sum with that adapter, which a student "
                "of the modules' rank cannot represent; learn without it to consolidate"
            )
        lessons = [
            Lesson(f"{TEACHER}{number}", self._encoded(teacher))
            for number, teacher in enumerate(teachers)
        ]
        folders = {
            lesson.teacher: teacher.adapter
            for lesson, teacher in zip(lessons, teachers, strict=True)
        }
        steps = TIMES_SHOWN * sum(len(teacher.shown) for teacher in teachers) // EXAMPLES
        factors = [Factors.read(folder) for folder in folders.values()]
        mean = combine(factors, [1 / len(factors)] * len(factors))
        begin = place / "begin"
        shutil.rmtree(begin, ignore_errors=True)
        recompress(mean, modules.config(modules.trainable[0]).r)[0].write(begin)
        with self._learner.beside({**folders, STUDENT: begin}):
            for parameter in modules.parameters(STUDENT).values():
                parameter.requires_grad_(True)
            kl = distil(
                policies,
                STUDENT,
                lessons,
                steps=max(1, min(MOST_STEPS, steps)),
                seed=recipe.seed,
                progress=lambda *_: check_running(),
                checkpoints=place,
            )
            with new_folder(to) as draft:
                modules.save(STUDENT, draft)
                facts = {"teachers": [teacher.update_id for teacher in teachers], "kl": kl}
                write_text(draft / FACTS, f"{json.dumps(facts)}\n")

    def _encoded(self, teacher: Teacher) -> list[Encoded]:
        examples = [
            read_row(entry.row, source=f"row {entry.seq}") for entry in teacher.shown if entry.row
        ]
        results = self._learner.encoder.encode_all(examples)
        kept = [result for result in results if isinstance(result, Encoded)]
        if not kept:
            raise DataError(f"{teacher.domain}: none of {len(examples)} rows fits data.max_length")
        return kept
