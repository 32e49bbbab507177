"""Texts cut at special tokens: what stands between two of them is tokenised once for a batch.

A prompt and the prompt with each response share most of their text. A tokenizer looks for special
tokens first and at each part between them alone, so the ids of a text are those of its parts.
"""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

PLACED = "Metaspace"
"""The way to split words that treats the first part of a text unlike others."""
PROBE = " A  word,\nthen 2 more"


class Pieces:
    """Cuts texts at the special tokens of a tokenizer of transformers.

    `usable` says whether the tokens of a text are then those of its parts.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._ids = _cutting_tokens(tokenizer)
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})")
        self.usable = bool(self._ids)
        if self.usable:
            self._backend = tokenizer.backend_tokenizer
            probes = [PROBE.join(["", *longest_first[:3], ""]), f"{longest_first[0]}\n"]
            # A tokenizer may do more than the library says of it.
            self.usable = self.ids(probes) == plain_ids(tokenizer, probes)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text; every part is tokenised once."""
        cut = [[part for part in self._cut.split(text) if part] for text in texts]
        known = {token: [id] for token, id in self._ids.items()}
        new = [part for part in dict.fromkeys(chain.from_iterable(cut)) if part not in known]
        self._backend.no_truncation()  # Other calls may have left these on.
        self._backend.no_padding()
        found = self._backend.encode_batch_fast(new, add_special_tokens=False)
        known |= {part: one.ids for part, one in zip(new, found, strict=True)}
        return [[*chain.from_iterable(map(known.__getitem__, parts))] for parts in cut]


def plain_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts to which no special tokens are added."""
    options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    found: list[list[int]] = tokenizer(list(texts), **options)["input_ids"]
    return found


def _cutting_tokens(tokenizer: Any) -> dict[str, int]:
    """Ids of the tokens that are found in a text before anything else; none where a text must stay
    whole."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.split_special_tokens or PLACED in repr(backend.pre_tokenizer):
        return {}
    added = backend.get_added_tokens_decoder()
    first = {id: token for id, token in added.items() if not token.normalized}
    wide = any(token.lstrip or token.rstrip or token.single_word for token in first.values())
    return {} if wide else {token.content: id for id, token in first.items()}
