"""Modules scaled down until the policy that they make is within a reverse KL."""

from collections.abc import Callable, Sequence

from fastslow.adapters import BASE, Modules
from fastslow.errors import ConfigError
from fastslow.evaluation import Tried, strength_within
from fastslow.training.state.state import copies


def check_scalable(modules: Modules, names: Sequence[str], start: str) -> None:
    """Raise ConfigError unless modules at strength 0 are what they are scaled down to."""
    if start == BASE and any(modules.config(name).use_dora for name in names):
        raise ConfigError(
            "budget: got DoRA in lora.start_from, whose magnitudes change the base at any "
            "strength, so it cannot be scaled down to the base; set budget.reference: previous, or "
            "budget: null"
        )


def scaled_down(
    modules: Modules,
    names: Sequence[str],
    limit: float,
    reverse_kl: Callable[[], float],
    *,
    start: str = BASE,
) -> list[Tried]:
    """Scale modules down in place, all by the same strength, which is 1 where they are within.

    Args:
        limit: nats.
        reverse_kl: of the policy as it is when this is called.
        start: what strength 0 is, and the KL is from: the base, or a module of the same shape.
            Modules on top of another go back to that one, whatever the KL is from.

    Returns what was tried, in its order; the last is how the modules are left. Raises as
    `check_scalable`.
    """
    check_scalable(modules, names, start)
    full = {name: copies(modules.tensors(name)) for name in names}

    def scale(strength: float) -> None:
        for name in names:
            modules.put_between(name, full[name], strength, start=start)

    def at(strength: float) -> float:
        scale(strength)
        return reverse_kl()

    begins_there = all(start == modules.start for name in names if modules.is_on_top(name))
    tried = strength_within(limit, at, from_reference=begins_there)
    scale(tried[-1].strength)
    return tried
