"""Fast-slow chasing: two modules on one base that push each other up the margin.

Source: OFS-DPO, arXiv 2406.05534, Eq. 3, 4, 6 and Algorithm 1 (as restated by others; the paper's
body could not be read). m_M = log pi_M(y_w|x) - log pi_M(y_l|x), sg = stop-gradient:

    leader   objective(L) + alpha * (-logsigmoid(beta (m_L - sg m_C)))
    chaser   objective(C) - alpha * (-logsigmoid(beta (sg m_L - m_C)))

Both receive the same extra gradient, alpha * beta * sigmoid(-beta (m_L - m_C)) up their margin,
which does not vanish when both objectives are saturated. Without the stop-gradients the two terms
would cancel exactly.

Deviations: the two networks keep their learning rates in both roles, unless the recipe sets
`roles_and_rates`; there may be more than two speeds; with `decay`, a decision also
counts losses from before the last one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid


def chase_terms(
    leader_margin: Tensor, chaser_margin: Tensor, *, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    """The terms added to the leader's and to the chaser's loss, each [B].

    Args:
        leader_margin: m_L, [B], nats, gradient flows into the leader's term only.
        chaser_margin: m_C, [B], nats, gradient flows into the chaser's term only.
        alpha: weight of the chase.
        beta: inverse temperature of the gap.
    """
    leader_term = -alpha * logsigmoid(beta * (leader_margin - chaser_margin.detach()))
    chaser_term = alpha * logsigmoid(beta * (leader_margin.detach() - chaser_margin))
    return leader_term, chaser_term


@dataclass(slots=True)
class LeaderSelector:
    """The leader, and the losses since the last decision.

    With one module it is plain training: that module always leads.

    >>> selector = LeaderSelector(("fast", "slow"), swap_every=1)
    >>> selector.record({"fast": 14.0, "slow": 12.0})
    >>> selector.finish_step(), selector.leader
    (True, 'slow')
    """

    modules: tuple[str, ...]
    swap_every: int = 20
    """Optimiser steps between two decisions."""
    decay: float = 0.0
    """Decay of earlier losses from one decision to the next."""
    may_swap: bool = True
    leader: str = field(init=False)
    steps: int = field(init=False, default=0)
    """Optimiser steps since the last check."""
    loss_sums: dict[str, float] = field(init=False)
    """Objective losses, summed over the same pairs for every module; losses from before the last
    check count less."""
    may_lead: tuple[str, ...] = field(init=False)
    """The modules among which the leader is chosen."""

    def __post_init__(self) -> None:
        self.leader = self.modules[0]
        self.may_lead = self.modules
        self.loss_sums = dict.fromkeys(self.modules, 0.0)

    def record(self, loss_sums: Mapping[str, float]) -> None:
        """Add the objective losses of one batch that each module had before its update."""
        for name, loss_sum in loss_sums.items():
            self.loss_sums[name] += loss_sum

    def finish_step(self) -> bool:
        """Count one optimiser step; returns whether the lead has changed.

        Every `swap_every` steps the module with the lowest mean loss takes the lead: steps since
        the last check count fully, earlier ones `decay` times as much per check since. A tie keeps
        the leader.
        """
        self.steps += 1
        if self.steps < self.swap_every:
            return False
        changed = self._choose()
        self.steps = 0
        self.loss_sums = {name: self.decay * total for name, total in self.loss_sums.items()}
        return changed

    def allow(self, modules: Iterable[str]) -> bool:
        """Let only these modules lead from now on; returns whether the lead has changed.

        A decision is made at once if they are not the same as before.
        """
        before, self.may_lead = self.may_lead, tuple(modules)
        return before != self.may_lead and self._choose()

    def _choose(self) -> bool:
        best = min(self.may_lead, key=lambda name: (self.loss_sums[name], name != self.leader))
        changed = self.may_swap and best != self.leader
        if changed:
            self.leader = best
        return changed

    def state(self) -> dict[str, Any]:
        """The mutable state, as JSON."""
        return {
            "leader": self.leader,
            "steps": self.steps,
            "loss_sums": dict(self.loss_sums),
            "may_lead": list(self.may_lead),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state()` returned."""
        self.leader = state["leader"]
        self.steps = state["steps"]
        self.loss_sums = dict(state["loss_sums"])
        self.may_lead = tuple(state.get("may_lead", self.modules))
