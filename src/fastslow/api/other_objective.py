"""A learner that learns from another kind of rows for a while, on the same modules."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastslow.objectives import Objective
from fastslow.training.loop.learner import Learner


@contextmanager
def other_objective(core: Learner, objective: Objective) -> Iterator[None]:
    """Inside, steps are of this objective; its running statistics begin where they are new, and
    those of the learner's own go on afterwards."""
    own, running, sizes = core.objective, core.state.running, core.micro_batches
    core.objective, sizes.coupled = objective, objective.coupled
    core.state.running = {name: objective.initial_state() for name in core.state.selector.modules}
    try:
        yield
    finally:
        core.objective, core.state.running = own, running
        sizes.coupled = own.coupled
