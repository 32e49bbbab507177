"""Checks that every objective must pass, to run on a custom one. Imports torch only.

>>> from fastslow.objectives import make_objective
>>> check_objective(make_objective("dpo"))
"""

from fastslow.testing.checks import (
    check_objective,
    checks,
    failed_checks,
    failure,
    gives_an_output,
    one_loss_and_reward_per_row,
)
from fastslow.testing.examples import RANGES, example

__all__ = [
    "RANGES",
    "check_objective",
    "checks",
    "example",
    "failed_checks",
    "failure",
    "gives_an_output",
    "one_loss_and_reward_per_row",
]
