"""Reward at a given reverse KL: the fair comparison between methods that move differently far."""

from collections.abc import Sequence


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
