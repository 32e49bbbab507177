"""Held-out votes: does a policy still prefer what people preferred, and as clearly?

Two tests, as each is blind to something. Whether votes are judged right does not change when a
policy is weakened: at a tenth of its strength it judges nearly all votes alike. How well it
predicts them does, and shows that on a quarter of the votes (LOG.md). One failure in fifty is by
chance, so every test is made on either half of the votes, and both must fail.
"""

from collections.abc import Callable, Sequence

from fastslow.live.gate.check import Check
from fastslow.live.gate.statistics import above_zero_by_chance, worse_by_chance

VOTES, LOSS = "held-out votes", "held-out loss"
"""The two checks."""
LEARNED = "learned votes"
"""In their place while too few are held out."""
Margins = Sequence[float]
"""Of each vote, the policy's margin over the base for what was preferred, nats."""
HALVES = (slice(0, None, 2), slice(1, None, 2))
WHOLE = (slice(None),)


def no_worse(
    name: str, candidate: Margins, before: Margins, *, alpha: float, fewest: int, whom: str
) -> Check:
    """Whether a candidate judges as many votes right as the policy before it: McNemar's test.

    Args:
        before: of the same votes. 0 of the base, which is right half of the time.
        fewest: votes below which nothing can be said.
        whom: what the policy before is called.
    """
    count = len(candidate)
    if count < fewest:
        return _too_few(name, count, fewest)
    own, theirs = _right(candidate), _right(before)
    ps = [worse_by_chance(*_differ(own[half], theirs[half])) for half in HALVES]
    accuracy, accuracy_before = sum(own) / count, sum(theirs) / count
    numbers = {
        "votes": count, "accuracy": accuracy, "before": accuracy_before, "p": ps[0],
        "p_again": ps[1],
    }  # fmt: skip
    said = (
        f"{accuracy:.3f} of {count} held-out votes judged right, {whom} {accuracy_before:.3f}; "
        f"worse by chance with p {ps[0]:.3g} and {ps[1]:.3g}, fails below {alpha} in both"
    )
    return Check(name, max(ps) >= alpha, said, numbers)


def keeps_advantage(
    name: str,
    candidate: Margins,
    before: Margins,
    loss: Callable[[float], float],
    *,
    share: float,
    alpha: float,
    fewest: int,
    whom: str,
    kind: str = "held-out",
    parts: Sequence[slice] = HALVES,
) -> Check:
    """Whether a candidate predicts the votes about as well as the policy before it: of that one's
    advantage over the base, it must keep a share. A t-test on the votes' losses.

    Args:
        loss: of a margin, nats.
        share: of the advantage.
        kind: of votes.
        parts: of the votes, on each of which it must fail.
    """
    count = len(candidate)
    if count < fewest:
        return _too_few(name, count, fewest)
    base = loss(0.0)
    own, theirs = [loss(one) for one in candidate], [loss(one) for one in before]
    # Above 0 on average where less than the share is kept.
    lacking = [a - b - (1 - share) * (base - b) for a, b in zip(own, theirs, strict=True)]
    ps = [above_zero_by_chance(lacking[part]) for part in parts]
    gained, gained_before = base - sum(own) / count, base - sum(theirs) / count
    named = dict(zip(("p", "p_again"), ps, strict=False))
    numbers = {"votes": count, "advantage": gained, "before": gained_before, **named}
    said = (
        f"loss on {count} {kind} votes {gained:+.4f} nats below the base's, {whom} "
        f"{gained_before:+.4f}, of which {share:.0%} must be kept; less by chance with p "
        f"{' and '.join(f'{p:.3g}' for p in ps)}, fails below {alpha}"
        f"{' in both' if len(ps) > 1 else ''}"
    )
    return Check(name, max(ps) >= alpha, said, numbers)


def _too_few(name: str, count: int, fewest: int) -> Check:
    said = f"{count} held-out votes, {fewest} are needed to tell"
    return Check(name, True, said, {"votes": count}, applied=False)


def _right(margins: Margins) -> list[bool]:
    """Which votes a policy judges as they are; of the base every second, evenly spread."""
    return [one > 0 or (one == 0 and place % 4 < 2) for place, one in enumerate(margins)]


def _differ(candidate: Sequence[bool], before: Sequence[bool]) -> tuple[int, int]:
    """Votes that the candidate alone judges right, and that the other alone does."""
    pairs = list(zip(candidate, before, strict=True))
    return pairs.count((True, False)), pairs.count((False, True))
