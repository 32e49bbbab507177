"""Checks on held-out votes: does a policy still prefer what people preferred, and as clearly?

There are two tests, as each is blind to something. Accuracy does not change when a policy is
weakened: at a tenth of its strength it judges nearly all votes alike. The loss does change, and
shows that on a quarter of the votes (LOG.md). One failure in fifty is by chance, so each test is
made on each half of the votes, and both must fail. Slow drift is seen in time only on all votes at
once, with a lower threshold instead of the halves.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastslow.config import GateConfig
from fastslow.live.gate.check import Check
from fastslow.live.gate.statistics import above_zero_by_chance, worse_by_chance

VOTES, LOSS = "held-out votes", "held-out loss"
"""The two checks."""
SLOWLY = " against slow drift"
"""Suffix of their names when the comparison is with the last approved update."""
LEARNED = "learned votes"
"""The check made instead while too few votes are held out."""
SERVING, APPROVED = "the serving policy", "the last approved update"
"""What a candidate is compared with, for messages."""
Margins = Sequence[float]
"""Per vote, the policy's margin over the base for the preferred answer, nats."""
HALVES = (slice(0, None, 2), slice(1, None, 2))
WHOLE = (slice(None),)


def retention(
    candidate: Margins,
    champion: Margins,
    anchor: Margins | None,
    loss: Callable[[float], float],
    limits: GateConfig,
) -> list[Check]:
    """Both checks against what answers now and, for slow drift, against the last approved update.

    Args:
        anchor: margins of the last approved update; None if there is none.
        loss: loss of a margin, nats.
    """
    options: dict[str, Any] = {
        "whom": SERVING, "alpha": limits.alpha, "fewest": limits.held_out, "parts": HALVES,
    }  # fmt: skip
    share = limits.kept_advantage
    checks = [
        no_worse(VOTES, candidate, champion, **options),
        keeps_advantage(LOSS, candidate, champion, loss, share=share, **options),
    ]
    if anchor is None:
        return checks
    options |= {"whom": APPROVED, "parts": WHOLE}
    options |= {"alpha": limits.approved_alpha, "fewest": limits.approved_held_out}
    return [
        *checks,
        no_worse(VOTES + SLOWLY, candidate, anchor, **options),
        keeps_advantage(LOSS + SLOWLY, candidate, anchor, loss, share=share, **options),
    ]


def no_worse(
    name: str,
    candidate: Margins,
    before: Margins,
    *,
    alpha: float,
    fewest: int,
    whom: str,
    parts: Sequence[slice] = HALVES,
) -> Check:
    """Checks that a candidate judges as many votes right as the policy before it (McNemar's test).

    Args:
        before: margins on the same votes. 0 for the base, which is right half of the time.
        fewest: fewest votes for a test.
        whom: name of the policy before.
        parts: parts of the votes; the check fails if each of them fails.
    """
    count = len(candidate)
    if count < fewest:
        return _too_few(name, count, fewest)
    own, theirs = _right(candidate), _right(before)
    ps = [worse_by_chance(*_differ(own[part], theirs[part])) for part in parts]
    accuracy, accuracy_before = sum(own) / count, sum(theirs) / count
    numbers = {"votes": count, "accuracy": accuracy, "before": accuracy_before, **_named(ps)}
    said = (
        f"{accuracy:.3f} of {count} held-out votes judged right, {whom} {accuracy_before:.3f}; "
        f"{_below(ps, alpha)}"
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
    """Checks that a candidate predicts the votes about as well as the policy before it: it must
    keep a share of that policy's advantage over the base. A t-test on the votes' losses.

    Args:
        loss: loss of a margin, nats.
        share: share of the advantage to keep.
        kind: kind of votes, for the message.
        parts: parts of the votes; the check fails if each of them fails.
    """
    count = len(candidate)
    if count < fewest:
        return _too_few(name, count, fewest)
    base = loss(0.0)
    own, theirs = [loss(margin) for margin in candidate], [loss(margin) for margin in before]
    # Above 0 on average where less than the share is kept.
    shortfall = [a - b - (1 - share) * (base - b) for a, b in zip(own, theirs, strict=True)]
    ps = [above_zero_by_chance(shortfall[part]) for part in parts]
    gained, gained_before = base - sum(own) / count, base - sum(theirs) / count
    numbers = {"votes": count, "advantage": gained, "before": gained_before, **_named(ps)}
    said = (
        f"advantage over the base on {count} {kind} votes {gained:+.4f} nats, {whom} "
        f"{gained_before:+.4f}, of which {share:.0%} must be kept; {_below(ps, alpha)}"
    )
    return Check(name, max(ps) >= alpha, said, numbers)


def _named(ps: Sequence[float]) -> dict[str, float]:
    return dict(zip(("p", "p_again"), ps, strict=False))


def _below(ps: Sequence[float], alpha: float) -> str:
    values = " and ".join(f"{p:.3g}" for p in ps)
    fails = "fails if both are below" if len(ps) > 1 else "fails below"
    return f"p = {values}, {fails} {alpha}"


def _too_few(name: str, count: int, fewest: int) -> Check:
    said = f"only {count} held-out votes, {fewest} are needed"
    return Check(name, True, said, {"votes": count}, applied=False)


def _right(margins: Margins) -> list[bool]:
    """Whether a policy judges each vote right; for the base half of them, evenly spread."""
    return [margin > 0 or (margin == 0 and place % 4 < 2) for place, margin in enumerate(margins)]


def _differ(candidate: Sequence[bool], before: Sequence[bool]) -> tuple[int, int]:
    """Number of votes that only the candidate judges right, and that only the other does."""
    pairs = list(zip(candidate, before, strict=True))
    return pairs.count((True, False)), pairs.count((False, True))
