"""Which examples are about the same, and which say the same: by hashes, in whatever file and format
they are. Hashes are of this process, and of those forked from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastslow.records import Example, Pair, Ranking, Rating, Text

Key = tuple[int, int]
"""Hashes of an example's prompt, and of its answers in any order."""
SAID = 0.01
"""Share of examples that repeat or contradict others up to which nothing is said."""


def key_of(example: Example) -> Key:
    """What an example is about."""
    answers = frozenset(_turns(answer, "assistant") for answer in example.responses)
    return hash(_turns(example.prompt, "user")), hash(answers)


def verdict_of(example: Example) -> int:
    """A hash of what it says of these answers: which is better, or whether it is good."""
    if isinstance(example, Pair) and example.is_tie:
        return 0
    if isinstance(example, Rating):
        return 1 + example.desirable
    order = example.ranks if isinstance(example, Ranking) else ()
    return hash((tuple(_turns(answer, "assistant") for answer in example.responses), order))


def _turns(text: Text, role: str) -> tuple[tuple[str, str, str], ...]:
    """A text and the one turn that holds it are the same."""
    if isinstance(text, str):
        return ((role, text, ""),)
    return tuple((turn.role, turn.content, _more(turn.extra)) for turn in text)


def _more(extra: Mapping[str, Any]) -> str:
    """Calls of tools and thoughts, in which turns of the same text may differ."""
    return json.dumps(extra, sort_keys=True, default=str) if extra else ""


@dataclass(slots=True)
class Alike:
    """Counts examples that say what one before did, and that say otherwise."""

    repeated: int = 0
    contradicted: int = 0
    _first: dict[int, int] = field(default_factory=dict)

    def see(self, about: int, verdict: int) -> None:
        """Look at one more, at what it is about and what it says of that."""
        if about not in self._first:
            self._first[about] = verdict
        elif self._first[about] == verdict:
            self.repeated += 1
        else:
            self.contradicted += 1

    def warning(self, of: int) -> str | None:
        """What was found, where it is more than one example in a hundred."""
        if self.repeated + self.contradicted <= SAID * of:
            return None
        return (
            f"{self.repeated} of {of} examples say the same as one before, of the same prompt and "
            f"answers, and {self.contradicted} say otherwise: what is repeated weighs more, and of "
            "what is contradicted nothing can be learned"
        )
