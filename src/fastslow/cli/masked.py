"""One example as the model sees it, with the prompt masked."""

from typing import Any

from rich.text import Text

from fastslow.scoring import Encoded
from fastslow.training.data.statistics import response_names

PREFERRED = ("chosen", "liked", "demonstrated", "rank 0")


def masked_example(item: Encoded, tokenizer: Any) -> Text:
    """The decoded prompt (dim, not scored) and its responses (coloured, scored)."""
    text = Text(f"\n{item.example.source} ({item.example.domain}), prompt (masked):\n")
    text.append(tokenizer.decode(item.tree.prompt), style="dim")
    for name, response in zip(response_names(item.example), item.tree.responses, strict=True):
        text.append(f"\n{name}, {len(response)} tokens:\n")
        style = "green" if name in PREFERRED else "red"
        text.append(tokenizer.decode(response), style=style)
    return text
