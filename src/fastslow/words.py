"""Words of a text, in any script: of those that put no spaces between words every sign is one."""

import re
from collections.abc import Sequence
from itertools import pairwise

UNSPACED = (
    "\u0e00-\u0eff"  # Thai and Lao.
    "\u1000-\u109f\u1780-\u17ff"  # Burmese and Khmer.
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Ranges of a regular expression's set; those of the last line are Chinese and Japanese."""
MARKS = "\u0300-\u036f\u0900-\u0dff"
"""Signs that belong to the letter before, as Indian scripts write vowels."""
WORD = re.compile(rf"[{UNSPACED}]|(?:[^\W_{UNSPACED}]|[{MARKS}])+")
SIGN = re.compile(rf"[{UNSPACED}]")


def words_of(text: str) -> list[str]:
    """Words in small letters, without punctuation.

    >>> words_of("The Inn's fine, 北京好。")
    ['the', 'inn', 's', 'fine', '北', '京', '好']
    """
    return WORD.findall(text.casefold())


def phrases_of(words: Sequence[str], longest: int) -> set[str]:
    """All runs of up to so many words.

    >>> sorted(phrases_of(["so", "it", "is"], 2))
    ['is', 'it', 'it is', 'so', 'so it']
    """
    joined = together if any(map(SIGN.match, words)) else " ".join
    return {
        joined(words[at : at + size])
        for size in range(1, longest + 1)
        for at in range(len(words) - size + 1)
    }


def together(words: Sequence[str]) -> str:
    """Words as one text, with spaces between those that are spaced."""
    text = words[0] if words else ""
    for before, word in pairwise(words):
        text += word if SIGN.match(before) and SIGN.match(word) else f" {word}"
    return text
