"""Finds what training and held-out data share: sources or examples.

Examples are compared by hashes of their prompt and answers, whatever their file and format.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from fastslow.config import Recipe
from fastslow.streams import ExampleStream, HubDataset, open_sources
from fastslow.training.data.dataset import (
    eval_objective,
    may_be_empty,
    objective_of,
    stored_sources,
)
from fastslow.training.data.identity import Key, key_of

LOOKED_AT = 50_000
"""Examples compared on each side: a few seconds of reading at the start of a run."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many held-out examples are also in the training data."""

    held_out: int
    """Held-out examples compared."""
    examples: int
    """Those whose prompt and answers are both in the training data."""
    prompts: int
    """Those of which only the prompt is."""
    learned: int
    """Training examples compared."""

    def warning(self, held_out: str, learned: str) -> list[str]:
        """One line that names both sides, or none if they share no example."""
        if not self.examples:
            return []
        first = f"the first {LOOKED_AT:,} of " if self.learned == LOOKED_AT else ""
        return [
            f"{self.examples} of {self.held_out} examples of {held_out} are in {first}{learned} "
            f"too, with the same prompt and answers, and {self.prompts} more share a prompt: "
            "memorised examples are measured as if they were held out; remove them from one of the "
            "two"
        ]


def held_out_warnings(parts: Mapping[str, Recipe]) -> list[str]:
    """A line for each overlap of training and held-out data, in one recipe or between parts.
    Live sources and the hub are not read for it."""
    warnings = []
    learned: dict[str, list[Key]] = {}
    for label, part, others in _compared(parts):
        held_out: list[Key] | None = None
        for name, other in others.items():
            if shared := _shared_sources(part, other):
                warnings.append(
                    f"{_prefix(label)}data.eval: {', '.join(shared[:3])} is in "
                    f"{_of('data.train', name)} as well: memorised examples are measured as if "
                    "they were held out; name other data, or keep some rows in a file or a split "
                    "of their own (folder:train and folder:test)"
                )
                continue
            held_out = _held_out_keys(part) if held_out is None else held_out
            if held_out and name not in learned:
                learned[name] = _learned_keys(other)
            common = overlap(held_out, learned.get(name, []))
            warnings += common.warning(_of("data.eval", label), _of("data.train", name))
    return warnings


def _compared(
    parts: Mapping[str, Recipe],
) -> Iterator[tuple[str, Recipe, dict[str, Recipe]]]:
    """The comparisons to make: a single recipe with itself; each of several parts with the parts
    whose held-out data differ. A part's own training data is compared when it is checked alone."""
    for label, part in parts.items():
        held_out = part.data.eval_sources
        alone = len(parts) == 1
        others = {
            name: other
            for name, other in parts.items()
            if alone or other.data.eval_sources != held_out
        }
        if held_out and others:
            yield label, part, others


def _shared_sources(held_out: Recipe, learned: Recipe) -> list[str]:
    train_sources = open_sources(stored_sources(learned), follow=learned.data.follow)
    train_paths = {os.path.realpath(source.name) for source in train_sources}
    sources = open_sources(held_out.data.eval_sources)
    return [source.name for source in sources if os.path.realpath(source.name) in train_paths]


def _of(key: str, label: str) -> str:
    return f"{key} of {label}" if label else key


def _prefix(label: str) -> str:
    return f"{label}: " if label else ""


def overlap(held_out: Sequence[Key], learned: Sequence[Key]) -> Overlap:
    """How many of the held-out examples are also in the training data."""
    examples, prompts = set(learned), {prompt for prompt, _ in learned}
    same = sum(key in examples for key in held_out)
    same_prompt = sum(prompt in prompts for prompt, _ in held_out)
    return Overlap(len(held_out), same, same_prompt - same, len(learned))


def _learned_keys(recipe: Recipe) -> list[Key]:
    if may_be_empty(recipe):
        return []
    kind = objective_of(recipe).takes
    return _keys(recipe, stored_sources(recipe), kind, skip=recipe.data.skip)


def _held_out_keys(recipe: Recipe) -> list[Key]:
    kind = eval_objective(objective_of(recipe)).takes
    return _keys(recipe, recipe.data.eval_sources, kind)


def _keys(recipe: Recipe, specs: list[str], kind: str, *, skip: int = 0) -> list[Key]:
    sources = [
        source
        for source in open_sources(specs)
        if source.rereadable and not isinstance(source, HubDataset)
    ]
    if not sources:
        return []
    # Refusing bad rows is left to training.
    stream = ExampleStream(
        sources, kind=kind, columns=recipe.data.columns, max_bad_fraction=1.0, skip=skip
    )
    return [key_of(example) for example in islice(stream, LOOKED_AT)]
