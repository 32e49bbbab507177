"""Reward at a given reverse KL: the fair comparison of methods that move by different amounts."""

from collections.abc import Mapping, Sequence


def reward_at_kl(points: Sequence[tuple[float, float]], budget: float) -> float:
    """Highest reward reached within a reverse KL budget, from (KL, reward) points.

    Between two points of neighbouring KL the reward is interpolated linearly. The reference itself,
    (0, its reward), should be among the points. Raises ValueError if no point lies within the
    budget.

    >>> reward_at_kl([(0.0, 0.0), (2.0, 1.0), (4.0, 0.5)], 3.0)
    1.0
    >>> reward_at_kl([(0.0, 0.0), (2.0, 1.0)], 0.5)
    0.25
    """
    ordered = sorted(points)
    within = [reward for kl, reward in ordered if kl <= budget]
    if not within:
        raise ValueError(f"no point within a reverse KL of {budget} nats: {ordered}")
    best = max(within)
    for (kl, reward), (next_kl, next_reward) in zip(ordered, ordered[1:], strict=False):
        if kl <= budget < next_kl:
            share = (budget - kl) / (next_kl - kl)
            best = max(best, reward + share * (next_reward - reward))
    return best


def at_kl(points: Sequence[Mapping[str, float]], budget: float) -> dict[str, float]:
    """All values of a policy at the strength where its reverse KL first passes a budget.

    Args:
        points: by rising strength, each with `reverse_kl` and the same other keys.
        budget: nats.

    Interpolates every key linearly between the points before and after. If the budget is never
    passed, returns the last point, so check `reverse_kl` of the result.

    >>> at_kl([{"reverse_kl": 0.0, "margin": 0.0}, {"reverse_kl": 2.0, "margin": 6.0}], 0.5)
    {'reverse_kl': 0.5, 'margin': 1.5}
    """
    for before, after in zip(points, points[1:], strict=False):
        low, high = before["reverse_kl"], after["reverse_kl"]
        if low <= budget < high:
            share = (budget - low) / (high - low)
            return {key: before[key] + share * (after[key] - before[key]) for key in before}
    return dict(points[-1])
