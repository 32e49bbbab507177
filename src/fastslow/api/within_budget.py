"""A learner's modules brought within its KL budget: for a copy that is saved, or for good."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fastslow.training.loop.learner import Learner

GENTLE = 0.9
"""Strength from which on the pace stays: what is scaled down by less keeps ten updates and more."""
LARGEST_CUT = 0.5
"""Of the pace, at one time."""
RECOVERY = 1.2
"""Times the pace, after an update that needed no scaling."""


@contextmanager
def copy_within(core: Learner, name: str) -> Iterator[None]:
    """Inside, a trained module is scaled down to the budget; a warning tells of it."""
    budget, modules = core.budget, core.policies.modules
    if budget is None or not core.state.step or name not in core.state.selector.modules:
        yield
        return
    handed = budget.hand_over(name)
    if handed.strength < 1:
        told = f"is saved at {handed.strength:.2f} of its update, to be within the KL budget"
        warnings.warn(f"{name} {told} of {handed.limit:.2f} nats per answer", stacklevel=4)
    try:
        yield
    finally:
        modules.load_tensors(name, handed.full)


def pulled_back(core: Learner) -> dict[str, float]:
    """Scale each trained module down to the budget, and let it learn on at its own pace. Strengths
    by name.

    By no more than itself needs: scaled like a leader that is far beyond, the others would shrink
    to nothing in time. At a pace of the others a fast one would leave the budget with every update.
    """
    budget, state = core.budget, core.state
    if budget is None or not state.step:
        return dict.fromkeys(state.selector.modules, 1.0)
    found = {name: budget.hand_over(name).strength for name in state.selector.modules}
    state.paces = {
        name: next_pace(state.paces.get(name, 1.0), strength) for name, strength in found.items()
    }
    return found


def next_pace(pace: float, strength: float) -> float:
    """What learning rates are multiplied by after a policy was scaled down by `strength`.

    A policy that is scaled down forgets as much of everything before. At its full rate one at the
    limit forgets half in every update; more slowly it stays where it is and turns.

    >>> next_pace(1.0, 0.25), next_pace(0.5, 0.8), next_pace(0.5, 1.0), next_pace(1.0, 1.0)
    (0.5, 0.4, 0.6, 1.0)
    >>> next_pace(0.5, 0.95)
    0.5
    """
    if strength < GENTLE:
        return pace * max(strength, LARGEST_CUT)
    return pace if strength < 1 else min(1.0, pace * RECOVERY)
