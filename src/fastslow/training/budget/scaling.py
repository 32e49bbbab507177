"""Scales modules down until their policy is within a reverse KL."""

from collections.abc import Callable, Sequence

from fastslow.adapters import BASE, Modules
from fastslow.errors import ConfigError
from fastslow.evaluation import Tried, strength_within
from fastslow.training.state.state import copies


def check_scalable(modules: Modules, names: Sequence[str], start: str) -> None:
    """Raise ConfigError unless modules at strength 0 equal `start`."""
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
    """Scale modules in place by one strength, which is 1 if they are already within the limit.

    Args:
        limit: of the reverse KL, nats.
        reverse_kl: measures the policy as it is when called.
        start: the policy at strength 0, and the KL's reference: the base, or a module of the same
            shape. Modules on top of another return to that one, whatever the reference.

    Returns what was tried, in order; the modules are left at the last. Raises as
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

    starts_at_reference = all(start == modules.start for name in names if modules.is_on_top(name))
    tried = strength_within(limit, at, from_reference=starts_at_reference)
    scale(tried[-1].strength)
    return tried
