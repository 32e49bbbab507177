"""Instructions about lists of words, by writers who are more or less clear about what they mean.

A writer sees a list, means one of OPERATIONS and writes 'Kindly say the opening bit at once.' The
operation meant also depends on the list, as each of its words has habits. Each part of the
instruction hints at the operation: a few words belong to one operation, all others lean towards
some. So a model pretrained on the answers that writers got obeys an instruction on lists whose
habits it outweighs, and the clearest instruction is a good choice of every part.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastslow.streams.worlds.language import THINGS

LENGTH = 3
"""Words in a list, all different."""

Operation = Callable[[Sequence[str]], Sequence[str]]
OPERATIONS: Mapping[str, Operation] = {
    "first": lambda words: words[:1],
    "second": lambda words: words[1:2],
    "last": lambda words: words[-1:],
    "ends": lambda words: [words[0], words[-1]],
    "start": lambda words: words[:-1],
    "rest": lambda words: words[1:],
    "reversed": lambda words: words[::-1],
    "copy": lambda words: words,
}
"""The words of a list that make up the answer."""

MEANT: Mapping[str, tuple[str, str, str]] = {
    "first": ("first", "opening", "leading"),
    "second": ("second", "next", "following"),
    "last": ("last", "final", "closing"),
    "ends": ("outer", "outside", "bordering"),
    "start": ("earlier", "former", "front"),
    "rest": ("remaining", "further", "later"),
    "reversed": ("reversed", "inverted", "backward"),
    "copy": ("whole", "entire", "unchanged"),
}
"""Words for an operation, clearest first."""
CLARITY = (2.0, 1.5, 1.0)
"""By how many nats writers who mean the operation favour each of its words."""
VAGUE = ("usual", "right", "proper", "plain")
PARTS: Mapping[str, tuple[str, ...]] = {
    "opener": ("Please", "Kindly", "Now", "Always", "Simply", "Carefully", "Here", "Then"),
    "verb": ("give", "say", "write", "name", "tell", "show", "pick", "take"),
    "what": (*(word for words in MEANT.values() for word in words), *VAGUE),
    "noun": ("part", "piece", "portion", "text", "result", "answer", "bit", "share"),
    "closer": ("at once", "and stop", "for me", "as told", "in short", "if possible",
               "as before", "with care"),
}  # fmt: skip
"""The parts of an instruction and the words for each."""
FORM = "{opener} {verb} the {what} {noun} {closer}."
LEANING = 0.8
"""Standard deviation, in nats, of how much an operation's writers favour any word."""
HABIT = 1.0
"""Standard deviation, in nats, of the pull of a list's word towards each operation."""


@dataclass(frozen=True, slots=True)
class Language:
    """How the writers of one seed write."""

    chances: Mapping[str, Mapping[str, tuple[float, ...]]]
    """By operation and part, the probability of each word."""
    habits: Mapping[str, tuple[float, ...]]
    """For each word of a list, its pull towards each operation, in nats."""

    @classmethod
    def draw(cls, seed: int) -> "Language":
        """The writers of a seed."""
        generator = random.Random(f"{seed}/language")
        chances = {
            operation: {
                part: _shares([_lean(operation, word, generator) for word in words])
                for part, words in PARTS.items()
            }
            for operation in OPERATIONS
        }
        habits = {thing: tuple(generator.gauss(0.0, HABIT) for _ in OPERATIONS) for thing in THINGS}
        return cls(chances, habits)

    def instruction(self, operation: str, generator: random.Random) -> str:
        """An instruction by a writer who means an operation."""
        chosen = {
            part: generator.choices(words, self.chances[operation][part])[0]
            for part, words in PARTS.items()
        }
        return FORM.format_map(chosen)

    def meant(self, words: Sequence[str], generator: random.Random) -> str:
        """The operation that a writer means on seeing a list."""
        pulls = [
            sum(columns) for columns in zip(*(self.habits[word] for word in words), strict=True)
        ]
        return generator.choices(list(OPERATIONS), _shares(pulls))[0]


def listed(words: Sequence[str]) -> str:
    """A list as written in prompts and answers."""
    return "/".join(words)


def answer(operation: str, words: Sequence[str]) -> str:
    """The answer to an operation on a list."""
    return listed(OPERATIONS[operation](words))


def _lean(operation: str, word: str, generator: random.Random) -> float:
    clear_words = MEANT[operation]
    clear = CLARITY[clear_words.index(word)] if word in clear_words else 0.0
    return clear + generator.gauss(0.0, LEANING)


def _shares(pulls: Sequence[float]) -> tuple[float, ...]:
    weights = [math.exp(pull) for pull in pulls]
    return tuple(weight / sum(weights) for weight in weights)
