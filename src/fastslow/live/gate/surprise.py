"""Checks whether new votes agree with the votes so far.

Votes for worse answers, from a few people who send many or from many who turn at once, look like a
taste that has changed, and may be one. Nothing in the votes shows which, so a person is asked.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fastslow.feedback.updates import Update
from fastslow.live.gate.check import Check
from fastslow.live.gate.statistics import more_often_by_chance

BEFORE = 128
"""Fewest earlier votes to compare with."""


def as_expected(right: int, votes: int, before: Iterable[Update], *, p: float) -> Check:
    """Checks that a policy predicted new votes about as often as those of earlier updates; if not,
    a person is to look at them.

    Args:
        right: votes that were predicted right before they were learned.
        before: updates that answer now or did; those that started from the base are left out.
        p: probability of so large a difference by chance, below which a person is asked.
    """
    # The base prefers no answer to itself: it predicts half of the votes right, whatever they are.
    known = [update.gate["learned"] for update in before if update.parent is not None]
    of_before = sum(_judged(update) for update in known)
    right_before = round(sum(update["accuracy"] * _judged(update) for update in known))
    if of_before < BEFORE or not votes:
        said = f"{of_before} earlier votes to compare with, {BEFORE} are needed"
        return Check("surprise", True, said, applied=False)
    p_value = more_often_by_chance(votes - right, votes, of_before - right_before, of_before)
    said = (
        f"{right / votes:.2f} of {votes} new votes predicted right, "
        f"{right_before / of_before:.2f} of {of_before} earlier ones; p = {p_value:.2g}, a person "
        f"decides below {p:g}"
    )
    return Check("surprise", p_value >= p, said, {"p": p_value}, asks=True)


def _judged(learned: Mapping[str, Any]) -> int:
    """How many votes an update's accuracy covers; in records of older versions, all its rows."""
    return int(learned.get("judged", learned["rows"]))
