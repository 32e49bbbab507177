"""What an objective needs besides log-probs, where that comes from, and examples that lack it."""

from collections.abc import Callable, Mapping, Sequence

from fastslow.objectives import Objective
from fastslow.records import Example, Pair, Ranking

OF_PAIRS: Mapping[str, Callable[[Pair], float | None]] = {
    "score_gap": lambda pair: _difference(pair.score_chosen, pair.score_rejected),
    "chosen_win_rate": lambda pair: pair.win_rate_chosen,
    "rejected_win_rate": lambda pair: pair.win_rate_rejected,
}
"""Extras that come from the data."""
COLUMNS = {
    "score_gap": "score_chosen and score_rejected",
    "chosen_win_rate": "win_rate_chosen",
    "rejected_win_rate": "win_rate_rejected",
}
"""The columns they are read from."""
OF_REFERENCE = {"dispersion": "entropy"}
"""Extras that are statistics of the reference, means over both responses."""
OF_POLICY = {"chosen_collision": "collision", "rejected_collision": "collision"}
"""Extras that are statistics of the policy, for one of the responses."""

EXTRAS: Mapping[str, Sequence[str]] = {
    "pairs": (*OF_PAIRS, *OF_REFERENCE, *OF_POLICY, "uniform"),
    "rankings": ("score",),
    "tokens": ("score",),
    "ratings": ("mismatched_log_ratio", "uniform"),
    "demonstrations": ("uniform",),
}
"""What `Objective.needs` may name, by the kind of examples the objective takes."""


def missing_fields(example: Example, objective: Objective) -> str | None:
    """A message that names what the objective needs and the example lacks; None if nothing."""
    missing: list[str] = []
    if isinstance(example, Ranking) and "score" in objective.needs and example.scores is None:
        missing = ["scores"]
    if isinstance(example, Pair):
        wanted = [name for name in objective.needs if name in OF_PAIRS]
        missing = [COLUMNS[name] for name in wanted if OF_PAIRS[name](example) is None]
    if not missing:
        return None
    return f"the objective needs {' and '.join(missing)}, which this row lacks"


def is_idle_tie(example: Example, objective: Objective) -> bool:
    """True if the example has no preference and the objective learns only from preferences."""
    if objective.on_policy:
        return False
    if isinstance(example, Pair):
        return example.is_tie and not objective.learns_ties
    return is_undecided(example)


def is_undecided(example: Example) -> bool:
    """True if none of its responses is preferred to another on balance."""
    if isinstance(example, Pair):
        return example.is_tie or example.confidence == 0.5
    return isinstance(example, Ranking) and example.ranks[-1] == 0


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
