"""Concatenates streams of rows with abrupt or gradual changes, to simulate drifting preferences.

A regime is a period of constant preferences: a domain, or a phase of one. Regimes may return.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def arranged(
    regimes: Sequence[Iterator[Row]], *, each: int, overlap: float = 0.0, seed: int = 0
) -> Iterator[Row]:
    """`each` rows of every regime in turn.

    Around every change, over `overlap` times `each` rows, the next regime takes over gradually: its
    share rises linearly from none to all. 0 is an abrupt change. An iterator may occur several
    times: a regime that returns continues with its next rows. Raises ValueError out of range, or if
    a regime has too few rows.
    """
    if each < 1 or not 0 <= overlap <= 1:
        raise ValueError(f"got each={each} and overlap={overlap}; must be at least 1, and 0 to 1")
    draw = random.Random(f"{seed}/arranged")
    width = overlap * each
    for position in range(each * len(regimes)):
        index = position // each
        nearest = round(position / each)  # The change that is nearest, between nearest - 1 and it.
        distance = position + 0.5 - nearest * each
        if width and 0 < nearest < len(regimes) and abs(distance) < width / 2:
            index = nearest if draw.random() < 0.5 + distance / width else nearest - 1
        row = next(regimes[index], None)
        if row is None:
            raise ValueError(f"regime {index + 1} has no more rows at row {position + 1}")
        yield row
