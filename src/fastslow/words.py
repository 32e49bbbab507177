"""Splits text into words, in any script: each character of scripts without spaces is a word."""

import re
from collections.abc import Sequence
from itertools import pairwise

UNSPACED = (
    "\u0e00-\u0eff"  # Thai and Lao.
    "\u1000-\u109f\u1780-\u17ff"  # Burmese and Khmer.
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Character ranges for a regular expression; the last line is Chinese and Japanese."""
MARKS = "\u0300-\u036f\u0900-\u0dff"
"""Marks that belong to the previous letter, such as vowel signs of Indian scripts."""
WORD = re.compile(rf"[{UNSPACED}]|(?:[^\W_{UNSPACED}]|[{MARKS}])+")
SIGN = re.compile(rf"[{UNSPACED}]")


def words_of(text: str) -> list[str]:
    """Lower-case words, without punctuation.

    >>> words_of("The Inn's fine, 北京好。")
    ['the', 'inn', 's', 'fine', '北', '京', '好']
    """
    return WORD.findall(text.casefold())


def phrases_of(words: Sequence[str], longest: int) -> set[str]:
    """All phrases of up to `longest` words.

    >>> sorted(phrases_of(["so", "it", "is"], 2))
    ['is', 'it', 'it is', 'so', 'so it']
    """
    joined = together if any(map(SIGN.match, words)) else " ".join
    return {
        joined(words[start : start + size])
        for size in range(1, longest + 1)
        for start in range(len(words) - size + 1)
    }


def together(words: Sequence[str]) -> str:
    """Words joined to one text, with spaces where the script has them."""
    text = words[0] if words else ""
    for before, word in pairwise(words):
        text += word if SIGN.match(before) and SIGN.match(word) else f" {word}"
    return text
