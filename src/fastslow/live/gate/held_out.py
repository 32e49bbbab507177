"""Held-out votes: does a policy still prefer what people preferred?

McNemar's exact test on the votes that candidate and champion judge differently. One failure in
fifty is by chance, so a failure is looked at again on the other half: both must fail.
"""

from collections.abc import Sequence

from fastslow.live.gate.check import Check
from fastslow.live.gate.statistics import worse_by_chance

Right = Sequence[bool]
"""Of each held-out vote, whether a policy is on its side."""


def no_worse(
    name: str, candidate: Right, before: Right, *, alpha: float, fewest: int, whom: str
) -> Check:
    """Whether a candidate judges votes as well as the policy before it.

    Args:
        before: of the same votes.
        fewest: votes below which nothing can be said.
        whom: what the policy before is called.
    """
    count = len(candidate)
    if count < fewest:
        said = f"{count} held-out votes, {fewest} are needed to tell"
        return Check(name, True, said, {"votes": count}, applied=False)
    halves = (slice(0, None, 2), slice(1, None, 2))
    ps = [worse_by_chance(*_differ(candidate[half], before[half])) for half in halves]
    own, theirs = sum(candidate) / count, sum(before) / count
    numbers = {"votes": count, "accuracy": own, "before": theirs, "p": ps[0], "p_again": ps[1]}
    said = (
        f"{own:.3f} of {count} held-out votes, {whom} {theirs:.3f}; worse by chance with "
        f"p {ps[0]:.3g} and {ps[1]:.3g}, fails below {alpha} in both"
    )
    return Check(name, max(ps) >= alpha, said, numbers)


def _differ(candidate: Right, before: Right) -> tuple[int, int]:
    """Votes that the candidate alone judges right, and that it alone judges wrong."""
    pairs = list(zip(candidate, before, strict=True))
    return pairs.count((True, False)), pairs.count((False, True))
