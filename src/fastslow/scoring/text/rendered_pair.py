"""A pair as the text that the model reads, for tools that tokenise it themselves."""

from dataclasses import dataclass
from typing import Any

from fastslow.records import Pair
from fastslow.scoring.text.encode import Encoded


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Prompt and responses in the model's template, truncated, with the ends of turns.

    The tokens of prompt plus response are those that are scored, unless truncation ended inside a
    character.
    """

    prompt: str
    chosen: str
    rejected: str


def rendered_pair(item: Encoded, tokenizer: Any) -> RenderedPair | None:
    """The texts of an encoded pair; None of a tie, of other examples, and where only parts of a
    response are scored, as of one that holds turns of the user."""
    pair = item.example
    if not isinstance(pair, Pair) or pair.is_tie or not all(map(all, item.tree.scored)):
        return None
    return RenderedPair(*map(tokenizer.decode, (item.tree.prompt, *item.tree.responses)))
