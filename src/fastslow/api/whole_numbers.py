"""Whole numbers that a caller gives, and what is said of those that are none."""

from collections.abc import Iterator
from typing import Any


def not_whole(least: int, **given: Any) -> Iterator[str]:
    """A fault of each argument that is no whole number of at least `least`; True and False are
    none, though Python counts with them."""
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            yield f"{name}: got {value!r}; must be a whole number of at least {least}"
