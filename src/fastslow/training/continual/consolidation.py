"""Consolidates several modules into one student adapter that learns from all of them.

Domains that arrive one by one need no past modules: the previous student teaches the earlier
domains on their kept examples, and the new module teaches its own domain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fastslow.adapters import Entry, Factors, combine, load_tokenizer, recompress
from fastslow.config import Recipe
from fastslow.training.continual.distillation import EXAMPLES, Lesson, distil
from fastslow.training.continual.memory import kept_examples
from fastslow.training.policies.loading import SharedBase, make_encoder, open_policies
from fastslow.training.state.event_log import Progress

MOST_STEPS = 300
"""More steps retain no more (LOG.md)."""
PER_PAIR = 3
"""Kept examples that a student learns from per pair that its domains' modules learned from, up to
MOST_STEPS: distilling takes about as long as their training, and at most as long again."""
STUDENT = "student"
BEFORE = "before"
"""Name of the policy consolidated before."""


@dataclass(frozen=True, slots=True)
class Consolidated:
    """A policy that stands for several entries."""

    folder: Path
    """A PEFT folder."""
    entries: Sequence[str]
    """Their names."""


def consolidate(
    entries: Sequence[Entry],
    recipe: Recipe,
    bases: SharedBase,
    *,
    rank: int,
    before: Consolidated | None = None,
    progress: Progress,
    checkpoints: Path | None = None,
) -> tuple[Factors, float]:
    """A student of at most `rank`, and its KL to its teachers, nats per response.

    Each entry teaches its own domain; `before` teaches for those it stands for. The student starts
    at the module of its rank that is nearest to the teachers' mean. `recipe` says how kept examples
    are encoded; `checkpoints` is as for `distil`. Raises DataError if an entry has no kept
    examples.
    """
    stands_for = set(before.entries) if before else set[str]()
    teachers = {e.name: BEFORE if e.name in stands_for else e.name for e in entries}
    folders = {e.name: e.folder for e in entries if e.name not in stands_for}
    if before is not None:
        folders[BEFORE] = before.folder
    start, _ = recompress(_mean(list(teachers.values()), folders), rank)
    tokenizer = load_tokenizer(recipe.model, trust_remote_code=recipe.trust_remote_code)
    encoder = make_encoder(recipe, tokenizer)
    lessons = [Lesson(teachers[entry.name], kept_examples(entry, encoder)) for entry in entries]
    with TemporaryDirectory() as scratch:
        folders[STUDENT] = Path(scratch) / "start"
        start.write(folders[STUDENT])
        policies = open_policies(recipe, folders, tokenizer, bases, trainable=(STUDENT,))
        kl = distil(
            policies,
            STUDENT,
            lessons,
            steps=_steps(entries),
            seed=recipe.seed,
            progress=progress,
            checkpoints=checkpoints,
        )
        policies.modules.save(STUDENT, Path(scratch) / "end")
        return Factors.read(Path(scratch) / "end"), kl


def _steps(entries: Sequence[Entry]) -> int:
    counts = [entry.pairs_seen for entry in entries]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return MOST_STEPS
    return max(1, min(MOST_STEPS, PER_PAIR * sum(known) // EXAMPLES))


def _mean(teachers: Sequence[str], folders: dict[str, Path]) -> Factors:
    """The mean of the teachers' updates, each counted once per entry it teaches."""
    modules = [Factors.read(folder) for folder in folders.values()]
    return combine(modules, [teachers.count(name) / len(teachers) for name in folders])
