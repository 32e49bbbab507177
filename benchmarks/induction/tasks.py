"""A model that follows instructions to some degree, and a task for each operation it knows.

out/<seed>/base/                        the model, pretrained on what the seed's writers wrote
out/<seed>/instructions-<pool>.txt      a pool, the same for all tasks
out/<seed>/<operation>/                 validation.jsonl, test.jsonl
out/<seed>/<operation>/<setting>/       a run folder
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.induction.language import (
    LENGTH,
    OPERATIONS,
    Language,
    answer,
    listed,
)
from fastslow.atomic_io import write_rows, write_text
from fastslow.bench.tiny_base import Pretraining, copy_base, pretrain
from fastslow.prompts import PromptSummary, optimise_prompt
from fastslow.streams.worlds.language import THINGS

METHODS = ("zopo", "random", "initial", "resample")
TEMPLATE = "{instruction}\n\n{input}"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a pool is searched; the defaults are the paper's."""

    name: str
    pool: int = 500
    budget: int = 165
    initial: int = 40
    zopo: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `prompts.zopo`."""
    methods: tuple[str, ...] = METHODS


DEFAULT = Setting("default")
SHORT = Setting("short", pool=2000, budget=40, initial=10)
LONG_STEPS: Mapping[str, Any] = {"zopo": {"learning_rate": 1.0}, "methods": ("zopo",)}
"""As long as the distance between candidates; the other methods do not depend on it."""
SETTINGS = (
    DEFAULT,
    replace(DEFAULT, name="default, rate 1", **LONG_STEPS),
    SHORT,
    replace(SHORT, name="short, rate 1", **LONG_STEPS),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """All other sizes; validation as in the paper."""

    validation: int = 20
    test: int = 200
    pretraining: Pretraining = Pretraining(conversations=96_000, epochs=1, learning_rate=4e-3)


@dataclass(frozen=True, slots=True)
class Tasks:
    """The tasks of one seed, which share one model."""

    out: Path
    seed: int
    sizes: Sizes = Sizes()

    @property
    def folder(self) -> Path:
        return self.out / str(self.seed)

    def write(self) -> None:
        """Write everything but the runs, unless already present."""
        if (self.folder / "base").exists():
            return
        language = Language.draw(self.seed)
        known: set[str] = set()
        for operation in OPERATIONS:
            place = self.folder / operation
            place.mkdir(parents=True, exist_ok=True)
            draw = random.Random(f"{self.seed}/{operation}")
            for name in ("validation", "test"):
                lists = [_words(draw) for _ in range(getattr(self.sizes, name))]
                known |= {listed(words) for words in lists}
                rows = [
                    {"prompt": listed(words), "completion": answer(operation, words)}
                    for words in lists
                ]
                write_rows(place / f"{name}.jsonl", rows)
        settings = self.sizes.pretraining
        draw = random.Random(f"{self.seed}/corpus")
        corpus = list(_corpus(language, known, settings.conversations, draw))
        copy_base(pretrain(corpus, settings=settings), self.folder / "base")

    def run(self, operation: str, setting: Setting) -> PromptSummary:
        """Run the methods of a setting on one task, unless already done."""
        place = self.folder / operation
        prompts = {
            "validation": str(place / "validation.jsonl"),
            "test": str(place / "test.jsonl"),
            "candidates": str(self._candidates(setting)),
            "max_validation": self.sizes.validation,
            "max_test": self.sizes.test,
            "template": TEMPLATE,
            "max_new_tokens": 2 * LENGTH,  # Words, separators and the end.
            "methods": list(setting.methods),
            "budget": setting.budget,
            "initial": setting.initial,
            "zopo": dict(setting.zopo),
        }
        recipe = {
            "model": str(self.folder / "base"),
            "output_dir": str(place / setting.name),
            "data": {"max_length": 96},
            "seed": self.seed,
            "prompts": prompts,
        }
        if (summary := optimise_prompt(recipe)) is None:
            raise SystemExit("stopped")
        return summary

    def _candidates(self, setting: Setting) -> Path:
        """The pool's file, written unless already present."""
        path = self.folder / f"instructions-{setting.pool}.txt"
        if not path.exists():
            language, draw = Language.draw(self.seed), random.Random(f"{self.seed}/pool")
            write_text(path, "\n".join(_pool(language, setting.pool, draw)) + "\n")
        return path


def _words(draw: random.Random) -> Sequence[str]:
    return draw.sample(THINGS, LENGTH)


def _pool(language: Language, count: int, draw: random.Random) -> list[str]:
    """Distinct instructions by writers who mean any of the operations."""
    instructions = dict[str, None]()
    while len(instructions) < count:
        instructions[language.instruction(draw.choice(list(OPERATIONS)), draw)] = None
    return list(instructions)


def _corpus(
    language: Language, excluded: set[str], count: int, draw: random.Random
) -> Iterator[tuple[str, str]]:
    """Prompts with their answers, without the lists of the tasks."""
    while count:
        words = _words(draw)
        if listed(words) in excluded:
            continue
        operation = language.meant(words, draw)
        instruction = language.instruction(operation, draw)
        prompt = TEMPLATE.format(instruction=instruction, input=listed(words))
        yield prompt, answer(operation, words)
        count -= 1
