"""Instructions about lists of words, by writers who are more or less clear about what they mean.

A writer sees a list, means one of OPERATIONS and writes 'Kindly say the opening bit at once.' Which
one is meant depends on the list too, as each of its words has habits, and each part of the
instruction hints at it: a few words belong to one operation, all others lean to some. So a model
that was pretrained on what the writers got for an answer obeys an instruction on those lists whose
habits it outweighs, and the clearest instruction is a good choice of every part.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastslow.streams.worlds.language import THINGS

LENGTH = 3
"""Words of a list, which are all different."""

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
"""What an answer takes of a list."""

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
"""Words for an operation, the clearest first."""
CLARITY = (2.0, 1.5, 1.0)
"""How much more often, in nats, each is chosen by who means the operation."""
VAGUE = ("usual", "right", "proper", "plain")
PARTS: Mapping[str, tuple[str, ...]] = {
    "opener": ("Please", "Kindly", "Now", "Always", "Simply", "Carefully", "Here", "Then"),
    "verb": ("give", "say", "write", "name", "tell", "show", "pick", "take"),
    "what": (*(word for words in MEANT.values() for word in words), *VAGUE),
    "noun": ("part", "piece", "portion", "text", "result", "answer", "bit", "share"),
    "closer": ("at once", "and stop", "for me", "as told", "in short", "if possible",
               "as before", "with care"),
}  # fmt: skip
"""The parts of an instruction and what each may be."""
FORM = "{opener} {verb} the {what} {noun} {closer}."
LEANING = 0.8
"""Standard deviation, in nats, of how often an operation's writers choose a word otherwise."""
HABIT = 1.0
"""Standard deviation, in nats, of how each word of a list draws to each operation."""


@dataclass(frozen=True, slots=True)
class Language:
    """How the writers of one seed write."""

    chances: Mapping[str, Mapping[str, tuple[float, ...]]]
    """Of each operation and part, how often each word is chosen."""
    habits: Mapping[str, tuple[float, ...]]
    """Of each word of a list, its pull to each operation, in nats."""

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
        """What a writer who means an operation writes."""
        chosen = {
            part: generator.choices(words, self.chances[operation][part])[0]
            for part, words in PARTS.items()
        }
        return FORM.format_map(chosen)

    def meant(self, words: Sequence[str], generator: random.Random) -> str:
        """What a writer means who sees a list."""
        pulls = [sum(own) for own in zip(*(self.habits[word] for word in words), strict=True)]
        return generator.choices(list(OPERATIONS), _shares(pulls))[0]


def listed(words: Sequence[str]) -> str:
    """A list as it stands in prompts and answers."""
    return "/".join(words)


def answer(operation: str, words: Sequence[str]) -> str:
    """What an operation takes of a list."""
    return listed(OPERATIONS[operation](words))


def _lean(operation: str, word: str, generator: random.Random) -> float:
    own = MEANT[operation]
    clear = CLARITY[own.index(word)] if word in own else 0.0
    return clear + generator.gauss(0.0, LEANING)


def _shares(pulls: Sequence[float]) -> tuple[float, ...]:
    weights = [math.exp(pull) for pull in pulls]
    return tuple(weight / sum(weights) for weight in weights)
