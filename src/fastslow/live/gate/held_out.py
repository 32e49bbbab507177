"""Held-out votes: does a policy still prefer what people preferred, and as clearly?

Two tests, as each is blind to something. Whether votes are judged right does not change when a
policy is weakened: at a tenth of its strength it judges nearly all votes alike. How well it
predicts them does, and shows that on a quarter of the votes (LOG.md). One failure in fifty is by
chance, so every test is made on either half of the votes, and both must fail. What is lost slowly
needs all votes at once to be seen in time, and a lower threshold in place of the halves.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastslow.config import GateConfig
from fastslow.live.gate.check import Check
from fastslow.live.gate.statistics import above_zero_by_chance, worse_by_chance

VOTES, LOSS = "held-out votes", "held-out loss"
"""The two checks."""
SLOWLY = " against slow drift"
"""Of their names, where they look at the last update that was approved of."""
LEARNED = "learned votes"
"""In their place while too few are held out."""
Margins = Sequence[float]
"""Of each vote, the policy's margin over the base for what was preferred, nats."""
HALVES = (slice(0, None, 2), slice(1, None, 2))
WHOLE = (slice(None),)


def retention(
    candidate: Margins,
    champion: Margins,
    anchor: Margins | None,
    loss: Callable[[float], float],
    limits: GateConfig,
) -> list[Check]:
    """Both checks against what answers now and, for what is lost slowly, against what was last
    approved of.

    Args:
        anchor: of what was approved of; None where nothing was.
        loss: of a margin, nats.
    """
    about: dict[str, Any] = {
        "whom": "the champion", "alpha": limits.alpha, "fewest": limits.held_out, "parts": HALVES,
    }  # fmt: skip
    share = limits.kept_advantage
    checks = [
        no_worse(VOTES, candidate, champion, **about),
        keeps_advantage(LOSS, candidate, champion, loss, share=share, **about),
    ]
    if anchor is None:
        return checks
    about |= {"whom": "the anchor", "parts": WHOLE}
    about |= {"alpha": limits.approved_alpha, "fewest": limits.approved_held_out}
    return [
        *checks,
        no_worse(VOTES + SLOWLY, candidate, anchor, **about),
        keeps_advantage(LOSS + SLOWLY, candidate, anchor, loss, share=share, **about),
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
    """Whether a candidate judges as many votes right as the policy before it: McNemar's test.

    Args:
        before: of the same votes. 0 of the base, which is right half of the time.
        fewest: votes below which nothing can be said.
        whom: what the policy before is called.
        parts: of the votes, on each of which it must fail.
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
        f"worse by chance with p {_below(ps, alpha)}"
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
    numbers = {"votes": count, "advantage": gained, "before": gained_before, **_named(ps)}
    said = (
        f"loss on {count} {kind} votes {gained:+.4f} nats below the base's, {whom} "
        f"{gained_before:+.4f}, of which {share:.0%} must be kept; less by chance with p "
        f"{_below(ps, alpha)}"
    )
    return Check(name, max(ps) >= alpha, said, numbers)


def _named(ps: Sequence[float]) -> dict[str, float]:
    return dict(zip(("p", "p_again"), ps, strict=False))


def _below(ps: Sequence[float], alpha: float) -> str:
    said = " and ".join(f"{p:.3g}" for p in ps)
    return f"{said}, fails below {alpha}{' in both' if len(ps) > 1 else ''}"


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
