"""What training and held-out data have in common: a source that is both, or the same examples.

Examples are compared by hashes of their prompt and answers, whatever file and format they are in.
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
"""Examples of each side that are compared: some seconds of reading at the start of a run."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Held-out examples that are among those learned from."""

    held_out: int
    """Examples that were looked for."""
    examples: int
    """Those found with the same prompt and the same answers."""
    prompts: int
    """Those of which the prompt alone was found."""
    learned: int
    """Examples among which they were looked for."""

    def warning(self, held_out: str, learned: str) -> list[str]:
        """One line that names both sides, or none where no example is on both."""
        if not self.examples:
            return []
        first = f"the first {LOOKED_AT:,} of " if self.learned == LOOKED_AT else ""
        return [
            f"{self.examples} of {self.held_out} examples of {held_out} are in {first}{learned} "
            f"too, with the same prompt and answers, and {self.prompts} more share a prompt: what "
            "is learned by heart is measured as if it was held out; remove them from one of the two"
        ]


def held_out_warnings(parts: Mapping[str, Recipe]) -> list[str]:
    """A line where sources or examples are learned from and held out, in one recipe or between
    parts. Live sources and the hub are not read for it."""
    warnings = []
    learned: dict[str, list[Key]] = {}
    for label, part, others in _compared(parts):
        held_out: list[Key] | None = None
        for name, other in others.items():
            if both := _shared_sources(part, other):
                warnings.append(
                    f"{_prefix(label)}data.eval: {', '.join(both[:3])} is in "
                    f"{_of('data.train', name)} as well: what is learned by heart is measured as "
                    "if it was held out; name other data, or keep some rows in a file or a split "
                    "of their own (folder:train and folder:test)"
                )
                continue
            held_out = _held_out_keys(part) if held_out is None else held_out
            if held_out and name not in learned:
                learned[name] = _learned_keys(other)
            found = overlap(held_out, learned.get(name, []))
            warnings += found.warning(_of("data.eval", label), _of("data.train", name))
    return warnings


def _compared(
    parts: Mapping[str, Recipe],
) -> Iterator[tuple[str, Recipe, dict[str, Recipe]]]:
    """One recipe with itself; of several parts each with those that hold other data out, as what
    it learns of its own is looked at with that part alone."""
    for label, part in parts.items():
        own = part.data.eval_sources
        alone = len(parts) == 1
        others = {
            name: other for name, other in parts.items() if alone or other.data.eval_sources != own
        }
        if own and others:
            yield label, part, others


def _shared_sources(held_out: Recipe, learned: Recipe) -> list[str]:
    own = open_sources(stored_sources(learned), follow=learned.data.follow)
    known = {os.path.realpath(source.name) for source in own}
    sources = open_sources(held_out.data.eval_sources)
    return [source.name for source in sources if os.path.realpath(source.name) in known]


def _of(key: str, label: str) -> str:
    return f"{key} of {label}" if label else key


def _prefix(label: str) -> str:
    return f"{label}: " if label else ""


def overlap(held_out: Sequence[Key], learned: Sequence[Key]) -> Overlap:
    """How many of some held-out examples are among those learned from."""
    examples, prompts = set(learned), {prompt for prompt, _ in learned}
    same = sum(key in examples for key in held_out)
    known = sum(prompt in prompts for prompt, _ in held_out)
    return Overlap(len(held_out), same, known - same, len(learned))


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
    # Bad rows are not this comparison's to refuse.
    stream = ExampleStream(
        sources, kind=kind, columns=recipe.data.columns, max_bad_fraction=1.0, skip=skip
    )
    return [key_of(example) for example in islice(stream, LOOKED_AT)]
