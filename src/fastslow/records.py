"""The facts that cross rooms and disks, frozen once made. Imports nothing of the package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["chosen", "tie"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


Text = str | tuple[Message, ...]
"""Plain text, or the turns of a conversation."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt and which of them was preferred.

    With `verdict="tie"` neither was, and the names `chosen` and `rejected` carry no meaning.

    >>> Pair(prompt="2 + 2 =", chosen=" 4", rejected=" 5", domain="math").verdict
    'chosen'
    """

    prompt: Text
    chosen: Text
    rejected: Text
    domain: str = "default"
    verdict: Verdict = "chosen"
    score_chosen: float | None = None
    score_rejected: float | None = None
    source: str = ""
    """Where the pair was read, as `file:row`."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The columns of the row that mean nothing to fastslow, kept as they were."""
