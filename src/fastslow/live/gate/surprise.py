"""Whether new votes say what votes have said so far.

Votes for what is worse, of few people who send many or of many who turn at once, look like a taste
that has changed, and may be one. Nothing in the votes tells which, so a person is asked.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fastslow.feedback.updates import Update
from fastslow.live.gate.check import Check
from fastslow.live.gate.statistics import more_often_by_chance

BEFORE = 128
"""Fewest votes before, to compare with."""


def as_expected(right: int, votes: int, before: Iterable[Update], *, p: float) -> Check:
    """Whether a policy has predicted new votes about as often as those of updates before; if not,
    somebody is to look at them.

    Args:
        right: votes that were predicted before they were learned.
        before: updates that answer or did.
        p: chance by which the difference is as large.
    """
    known = [one.gate["learned"] for one in before]
    of_before = sum(_judged(one) for one in known)
    right_before = round(sum(one["accuracy"] * _judged(one) for one in known))
    if of_before < BEFORE or not votes:
        said = f"{of_before} votes were learned before, {BEFORE} are needed to tell"
        return Check("surprise", True, said, applied=False)
    found = more_often_by_chance(votes - right, votes, of_before - right_before, of_before)
    said = (
        f"{right / votes:.2f} of {votes} new votes were as the policy says, "
        f"{right_before / of_before:.2f} of {of_before} before; so few by chance with p "
        f"{found:.2g}, a person is asked below {p:g}"
    )
    return Check("surprise", found >= p, said, {"p": found}, asks=True)


def _judged(learned: Mapping[str, Any]) -> int:
    """How many votes an update's accuracy is of; records of older versions have all its rows."""
    return int(learned.get("judged", learned["rows"]))
