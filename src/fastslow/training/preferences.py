"""Scores of a batch of pairs to the losses of every trained module."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from fastslow.dynamics import Race, chase_terms
from fastslow.objectives import Objective, PairLogps
from fastslow.scoring import TreeBatch


def pair_logps(policy: Tensor, reference: Tensor, batch: TreeBatch) -> PairLogps:
    """The scores of a batch of two-response trees, [2 B], as B pairs."""
    policy, reference, lengths = (
        values.view(-1, 2) for values in (policy, reference, batch.lengths)
    )
    return PairLogps(
        policy_chosen=policy[:, 0],
        policy_rejected=policy[:, 1],
        reference_chosen=reference[:, 0],
        reference_rejected=reference[:, 1],
        chosen_length=lengths[:, 0],
        rejected_length=lengths[:, 1],
    )


@dataclass(frozen=True, slots=True)
class ModuleLoss:
    """One module's losses on a batch of pairs, each [B]."""

    logps: PairLogps
    objective: Tensor
    """The preference loss alone, which decides who leads."""
    total: Tensor
    """What the module minimises: the preference loss and its side of the chase."""

    @property
    def delta(self) -> Tensor:
        """m - m_ref, [B], nats, detached."""
        return (self.logps.policy_margin - self.logps.reference_margin).detach()


def module_losses(
    logps: Mapping[str, PairLogps],
    objective: Objective,
    race: Race,
    *,
    alpha: float,
) -> dict[str, ModuleLoss]:
    """The loss of every module of the race on the same pairs, keyed by module.

    `alpha` weighs the chase between the leader and each chaser; a race of one has none. With
    several chasers the leader is pushed by their mean, as hard as by one.
    """
    losses = {name: objective(values).loss for name, values in logps.items()}
    totals = dict(losses)
    leader = race.leader
    chasers = [name for name in race.modules if name != leader]
    for chaser in chasers:
        leader_term, chaser_term = chase_terms(
            logps[leader].policy_margin,
            logps[chaser].policy_margin,
            alpha=alpha,
            beta=objective.beta,
        )
        totals[leader] = totals[leader] + leader_term / len(chasers)
        totals[chaser] = totals[chaser] + chaser_term
    return {
        name: ModuleLoss(logps[name], losses[name].detach(), totals[name]) for name in race.modules
    }
