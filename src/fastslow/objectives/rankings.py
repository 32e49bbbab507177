"""Objectives on ranked lists, not split into pairs. Log-probs are summed over tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import RankedLogps, needed, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.settings import check_positive

NEVER = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxDpo(Objective):
    """S-DPO, one response against all others: L = logsumexp_i(beta h_i) - beta h_0.

    Source: arXiv 2406.09215; chenyuxin1999/S-DPO, `softmax_dpo_trainer.py`. With one negative it is
    DPO. (TRL's `sdpo` is another method, self-distillation.)
    """

    beta: float = 0.1

    takes = "rankings"

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: RankedLogps) -> ObjectiveOutput:
        rivals = logps.present[:, None, :].clone()
        rivals[:, :, 0] = False
        return ranked_output(lost(logps, rivals, self.beta)[:, 0], logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlackettLuce(Objective):
    """L = sum_i [logsumexp_{j not before i} (beta h_j) - beta h_i], i over all but the last rank.

    Source: R. L. Plackett (1975), R. D. Luce (1959); DPO, arXiv 2305.18290, appendix A.3. With two
    responses it is DPO. Equal ranks share one sum (Breslow's treatment of ties); two equal
    responses alone carry no information and have no loss.
    """

    beta: float = 0.1

    takes = "rankings"

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def __call__(self, logps: RankedLogps) -> ObjectiveOutput:
        rank, present = logps.rank, logps.present
        last = torch.where(present, rank, -1).amax(1, keepdim=True)
        counts = present & (rank < last)
        # [B, i, j]: whether j is still a candidate, besides i, when i is chosen.
        stands = (rank[:, None, :] >= rank[:, :, None]) & present[:, None, :]
        others = ~torch.eye(rank.shape[1], dtype=torch.bool, device=rank.device)
        loss = lost(logps, counts[:, :, None] & stands & others, self.beta).sum(1)
        return ranked_output(loss, logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedExo(Objective):
    """EXO over K scored responses: KL(softmax(beta h) || softmax(score / temperature)).

    Source: arXiv 2402.00856; haozheji/exact-optimization, `exact_loss`. Its scripts score
    responses at their sampling temperature; here log-probs are ordinary.
    """

    beta: float = 0.1
    temperature: float = 0.1

    takes = "rankings"
    needs = ("score",)

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_positive("temperature", self.temperature)

    def __call__(self, logps: RankedLogps) -> ObjectiveOutput:
        rewards = self.beta * logps.log_ratio
        scores = needed(logps, "score") / self.temperature
        policy, people = (
            values.masked_fill(~logps.present, NEVER).log_softmax(1) for values in (rewards, scores)
        )
        gap = torch.where(logps.present, policy - people, 0.0)
        return ranked_output((policy.exp() * gap).sum(1), logps, self.beta)


def lost(logps: RankedLogps, rivals: Tensor, beta: float) -> Tensor:
    """-log P(i comes before its rivals j), [B, i], by `rivals` [B, i, j]; 0 where i has none.

    Computed from differences in the same way as `PairLogps.delta`, so that one rival gives DPO bit
    for bit.
    """
    policy, reference = widen(logps.policy), widen(logps.reference.detach())
    rows = rivals.shape[1]
    delta = (policy[:, :rows, None] - policy[:, None, :]) - (
        reference[:, :rows, None] - reference[:, None, :]
    )
    return -logsigmoid(-(-beta * delta).masked_fill(~rivals, NEVER).logsumexp(2))


def ranked_output(loss: Tensor, logps: RankedLogps, beta: float) -> ObjectiveOutput:
    """The loss with the best response's reward beta h and the mean of the others'."""
    rewards = beta * logps.log_ratio.detach()
    return ObjectiveOutput(loss, rewards[:, 0], logps.rest_mean(rewards))
