"""A pair as the model sees it: what is prompt, what is learned."""

from typing import Any

from rich.text import Text

from fastslow.scoring import EncodedPair


def masked_pair(item: EncodedPair, tokenizer: Any) -> Text:
    """The decoded prompt, dim, and both responses, coloured: only they are scored."""
    text = Text(f"\n{item.pair.source} ({item.pair.domain}), prompt not scored:\n")
    text.append(tokenizer.decode(item.tree.prompt), style="dim")
    for name, style, response in zip(
        ("chosen", "rejected"), ("green", "red"), item.tree.responses, strict=True
    ):
        text.append(f"\n{name}, {len(response)} tokens scored:\n")
        text.append(tokenizer.decode(response), style=style)
    return text
