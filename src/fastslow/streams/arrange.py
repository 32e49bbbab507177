"""Puts streams of rows one behind the other as preferences come in life: drifting, noisy.

A regime is whatever the preferences are at a time: a domain, or a phase of one. Regimes may return.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
OTHER = {
    "chosen": "rejected", "rejected": "chosen",
    "score_chosen": "score_rejected", "score_rejected": "score_chosen",
}  # fmt: skip
"""Columns that change places with a flipped label."""


def arranged(
    regimes: Sequence[Iterator[Row]], *, each: int, overlap: float = 0.0, seed: int = 0
) -> Iterator[Row]:
    """`each` rows of every regime in turn.

    Around every change, over `overlap` times `each` rows, the next regime takes over gradually: its
    share rises linearly from none to all. 0 is an abrupt change. An iterator may stand several
    times: a regime that returns goes on with its next rows. Raises ValueError out of range, or
    where a regime has too few rows.
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
            raise ValueError(f"regime {index + 1} has no more rows at row {position + 1} of all")
        yield row


def with_noise(rows: Iterator[Row], *, rate: float, seed: int = 0) -> Iterator[Row]:
    """The rows with a share of the labels flipped, at random. Raises ValueError out of range.

    What a row says of its two answers goes with them.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"got rate={rate}; must be from 0 to 1")
    draw = random.Random(f"{seed}/noise")
    for row in rows:
        if draw.random() < rate:
            flipped = {OTHER.get(key, key): value for key, value in row.items()}
            if "probability" in row:
                flipped["probability"] = 1 - row["probability"]
            yield flipped
        else:
            yield row
