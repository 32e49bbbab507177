"""One example as the model sees it, with the prompt masked."""

from itertools import groupby
from typing import Any

from rich.text import Text

from fastslow.scoring import Encoded
from fastslow.training.data.checking import response_names

PREFERRED = ("chosen", "liked", "demonstrated", "rank 0")


def masked_example(item: Encoded, tokenizer: Any) -> Text:
    """The decoded prompt (dim, not scored) and its responses (coloured where scored)."""
    text = Text(f"\n{item.example.source} ({item.example.domain}), prompt not scored:\n")
    text.append(tokenizer.decode(item.tree.prompt), style="dim")
    tree = item.tree
    answers = zip(response_names(item.example), tree.responses, tree.scored_places(), strict=True)
    for name, response, scored in answers:
        text.append(f"\n{name}, {len(scored)} tokens scored:\n")
        style = "green" if name in PREFERRED else "red"
        scored_places = set(scored)
        for is_scored, places in groupby(range(len(response)), scored_places.__contains__):
            part = tokenizer.decode([response[place] for place in places])
            text.append(part, style=style if is_scored else "dim")
    return text
