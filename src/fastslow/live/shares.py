"""Whose votes an update learns from: nobody decides alone where others vote too."""

from collections import Counter
from collections.abc import Sequence, Set
from math import ceil

from fastslow.feedback.ledger import Entry

LEAST_CAP = 0.05
"""Share of an update that anybody may have, however many vote."""
TIMES_EQUAL = 2.0
"""Largest share, times an equal one of all who vote: of two people one may have all, of ten a
fifth."""
SETTLED = 32
"""Votes of somebody who is no newcomer."""


def within_shares(
    waiting: Sequence[Entry], size: int, *, newcomers: Set[int], of_newcomers: float
) -> list[Entry]:
    """The first of the rows that wait, at most `size`, with nobody's share above its cap, and of
    those who have hardly voted `of_newcomers` together, where others have."""
    voters = {one.voter for one in waiting}
    if not voters:
        return []
    known = voters - newcomers
    room = ceil(of_newcomers * size) if known else size
    # Newcomers do not count, or made-up accounts would shrink what honest people may have.
    cap = max(ceil(LEAST_CAP * size), ceil(TIMES_EQUAL * size / len(known or voters)))
    taken, chosen = Counter[int](), list[Entry]()
    for one in waiting:
        new = one.voter in newcomers
        if len(chosen) == size:
            break
        if taken[one.voter] >= cap or (new and not room):
            continue
        taken[one.voter] += 1
        room -= new
        chosen.append(one)
    return chosen
