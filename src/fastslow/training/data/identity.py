"""Finds examples with the same prompt and answers, and repeated or opposite verdicts on them.

It compares hashes, so file and format do not matter. They hold for this process and its forks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastslow.records import Example, Pair, Ranking, Rating, Text

Key = tuple[int, int]
"""Hashes of an example's prompt, and of its answers in any order."""
SAID = 0.01
"""Share of examples that repeat or contradict others up to which there is no warning."""


def key_of(example: Example) -> Key:
    """Hashes of an example's prompt and answers."""
    answers = frozenset(_turns(answer, "assistant") for answer in example.responses)
    return hash(_turns(example.prompt, "user")), hash(answers)


def verdict_of(example: Example) -> int:
    """Hash of an example's verdict on its answers: which is better, or whether it is good."""
    if isinstance(example, Pair) and example.is_tie:
        return 0
    if isinstance(example, Rating):
        return 1 + example.desirable
    order = example.ranks if isinstance(example, Ranking) else ()
    return hash((tuple(_turns(answer, "assistant") for answer in example.responses), order))


def _turns(text: Text, role: str) -> tuple[tuple[str, str, str], ...]:
    """The turns of a text; plain text equals a single turn with that content."""
    if isinstance(text, str):
        return ((role, text, ""),)
    return tuple((turn.role, turn.content, _extra_text(turn.extra)) for turn in text)


def _extra_text(extra: Mapping[str, Any]) -> str:
    """Tool calls and reasoning, in which turns with the same content may differ."""
    return json.dumps(extra, sort_keys=True, default=str) if extra else ""


@dataclass(slots=True)
class Alike:
    """Counts examples that repeat an earlier one, and those that contradict it."""

    repeated: int = 0
    contradicted: int = 0
    _first: dict[int, int] = field(default_factory=dict)

    def see(self, about: int, verdict: int) -> None:
        """Count one more example: `about` from `key_of`, `verdict` from `verdict_of`."""
        if about not in self._first:
            self._first[about] = verdict
        elif self._first[about] == verdict:
            self.repeated += 1
        else:
            self.contradicted += 1

    def warning(self, of: int) -> str | None:
        """A warning if more than one example in a hundred repeats or contradicts another."""
        if self.repeated + self.contradicted <= SAID * of:
            return None
        return (
            f"{self.repeated} of {of} examples repeat an earlier one, with the same prompt and "
            f"answers, and {self.contradicted} contradict one: repeats weigh more, and nothing can "
            "be learned from contradictions"
        )
