"""A learner's modules brought within its KL budget: for a copy that is saved, or for good."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fastslow.training.loop.learner import Learner
from fastslow.training.state.state import copies


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


def pulled_back(core: Learner) -> float:
    """Scale all trained modules down by what brings the leader within the budget; that strength, 1
    where nothing is to do."""
    budget, modules = core.budget, core.policies.modules
    if budget is None or not core.state.step:
        return 1.0
    strength = budget.hand_over(core.leader).strength
    for name in core.state.selector.modules:
        if name != core.leader and strength < 1:
            full = copies(modules.tensors(name))
            modules.put_between(name, full, strength, start=budget.reference)
    return strength
