"""Caps each person's share of an update: nobody decides alone where others vote too."""

from collections import Counter
from collections.abc import Sequence, Set
from math import ceil

from fastslow.feedback.ledger import Entry

LEAST_CAP = 0.05
"""Share of an update that anybody may have, however many people vote."""
TIMES_EQUAL = 2.0
"""Largest share, as a multiple of an equal share of all voters: one of two people may have all, one
of ten a fifth."""
SETTLED = 32
"""Fewest votes of somebody who is no longer a newcomer."""


def within_shares(
    waiting: Sequence[Entry], size: int, *, newcomers: Set[int], of_newcomers: float
) -> list[Entry]:
    """The first of the waiting rows, at most `size`, with nobody's share above the cap. Newcomers
    have at most the share `of_newcomers` together, where others vote."""
    voters = {entry.voter for entry in waiting}
    if not voters:
        return []
    known = voters - newcomers
    room = ceil(of_newcomers * size) if known else size
    # Newcomers do not count, or made-up accounts would shrink what honest people may have.
    cap = max(ceil(LEAST_CAP * size), ceil(TIMES_EQUAL * size / len(known or voters)))
    taken, chosen = Counter[int](), list[Entry]()
    for entry in waiting:
        new = entry.voter in newcomers
        if len(chosen) == size:
            break
        if taken[entry.voter] >= cap or (new and not room):
            continue
        taken[entry.voter] += 1
        room -= new
        chosen.append(entry)
    return chosen
