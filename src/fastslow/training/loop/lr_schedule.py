"""Which modules are updated in a step, and their learning rates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fastslow.config import Recipe
from fastslow.dynamics import LeaderSelector
from fastslow.training.policies.loading import CRITIC


@dataclass(frozen=True, slots=True)
class LrSchedule:
    """Learning rates of a run of `total_steps`, or of one whose end is not known."""

    recipe: Recipe
    total_steps: int | None

    def at(
        self, step: int, selector: LeaderSelector, *, paces: Mapping[str, float]
    ) -> dict[str, float]:
        """The learning rate of every module, the critic's among them, after `step` steps: what the
        recipe says, times the module's pace if it has one."""
        train, chase, online = self.recipe.train, self.recipe.chase, self.recipe.online
        factor = lr_factor(
            step,
            schedule=train.schedule,
            warmup_steps=train.warmup_steps,
            total_steps=self.total_steps,
        )
        ratios = {
            name: chase.slow_ratio ** self._speed_rank(name, selector) if chase else 1.0
            for name in selector.modules
        }
        if online is not None:
            ratios[CRITIC] = online.critic_rate
        return {
            name: train.learning_rate * ratio * factor * paces.get(name, 1.0)
            for name, ratio in ratios.items()
        }

    def updating(self, step: int, selector: LeaderSelector) -> tuple[str, ...]:
        """The modules that learn: the slower ones only every `slow_every`-th step."""
        chase = self.recipe.chase
        return tuple(
            name
            for name in selector.modules
            if chase is None
            or self._speed_rank(name, selector) == 0
            or step % chase.slow_every == 0
        )

    def _speed_rank(self, name: str, selector: LeaderSelector) -> int:
        """How many modules are faster than this one at present."""
        chase = self.recipe.chase
        if chase and chase.swap == "roles_and_rates":
            chasers = [module for module in selector.modules if module != selector.leader]
            return [selector.leader, *chasers].index(name)
        return selector.modules.index(name)


def lr_factor(step: int, *, schedule: str, warmup_steps: int, total_steps: int | None) -> float:
    """Share of the peak learning rate for the update after `step` finished ones.

    Rises linearly over `warmup_steps`, then stays (`constant`) or falls to 0 at `total_steps`
    (`linear`, `cosine`). Never 0 for a step that is taken.

    >>> [lr_factor(s, schedule="linear", warmup_steps=0, total_steps=4) for s in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return 1.0
    assert total_steps is not None
    share = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    # The stream's pairs are estimated; those beyond the estimate still learn a little.
    share = min(share, 1 - 1 / (total_steps + 1))
    return 0.5 * (1 + math.cos(math.pi * share)) if schedule == "cosine" else 1 - share
