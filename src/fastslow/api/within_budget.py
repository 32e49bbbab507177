"""A learner's modules brought within its KL budget: for a copy that is saved, or for good."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fastslow.training.loop.learner import Learner


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
    """Scale each trained module down to the budget, by no more than itself needs: scaled like a
    leader that is far beyond, the others would shrink to nothing in time. Strengths by name."""
    budget = core.budget
    if budget is None or not core.state.step:
        return dict.fromkeys(core.state.selector.modules, 1.0)
    return {name: budget.hand_over(name).strength for name in core.state.selector.modules}
