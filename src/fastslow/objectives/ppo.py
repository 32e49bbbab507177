"""PPO and ESPO: token-level policy gradients with a critic, over several passes.

Sources: PPO as in TRL's trainer (GAE, KL inside the reward, whitened advantages), except that
an answer's tokens are summed, not averaged over the batch, as in every objective here; ESPO, arXiv
2202.00079, which has no clipping and stops reusing the same answers once ratios leave 1.

All tensors of tokens are [N, T]: N answers of up to T tokens, the real ones `present`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fastslow.objectives.containers import TokenLogps, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput
from fastslow.objectives.rankings import ranked_output
from fastslow.objectives.settings import check_not_negative, check_positive, check_range

LARGEST = 20.0
"""Log-ratio to the sampling policy at which a token's weight stops growing."""
TINY = 1e-8


@dataclass(frozen=True, slots=True)
class Appraisal:
    """A critic's assessment of answers, no gradient."""

    advantage: Tensor
    """How much better each token was than expected, [N, T]; 0 where there is no token."""
    returns: Tensor
    """The critic's targets, before each token, [N, T]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCritic(Objective):
    """A token-level policy gradient. Subclasses limit the updates on the same completions.

    The reward of a token is -beta (log pi_then - log pi_ref), plus the answer's score for the
    last one.
    """

    beta: float = 0.05
    gae_lambda: float = 0.95
    discount: float = 1.0
    whiten: bool = True
    value_clip: float = 0.2

    takes = "tokens"
    on_policy = True
    chase_beta = 1.0

    def __post_init__(self) -> None:
        check_not_negative("beta", self.beta)
        check_positive("value_clip", self.value_clip)
        for name in ("gae_lambda", "discount"):
            check_range(name, getattr(self, name), 0, 1 + TINY)

    def appraise(
        self, score: Tensor, sampled: Tensor, reference: Tensor, values: Tensor, present: Tensor
    ) -> Appraisal:
        """Generalised advantages of answers.

        Args:
            score: of each answer, [N].
            sampled: log-probs of the tokens under the policy that sampled them, [N, T].
            reference: the same under the reference.
            values: the critic's prediction before each token.
            present: bool.
        """
        reward = -self.beta * (sampled - reference) * present
        last = present.sum(1) - 1
        reward = reward.scatter_add(1, last[:, None], score[:, None].to(reward.dtype))
        advantage = gae(
            reward, values * present, discount=self.discount, gae_lambda=self.gae_lambda
        )
        advantage = advantage * present
        returns = advantage + values * present
        return Appraisal(_whitened(advantage, present) if self.whiten else advantage, returns)

    def value_loss(self, values: Tensor, then: Tensor, returns: Tensor, present: Tensor) -> Tensor:
        """Half the squared error of the critic, mean over an answer's tokens, [N].

        Moving further than `value_clip` from its values `then` brings no gain.
        """
        clipped = then + (values - then).clamp(-self.value_clip, self.value_clip)
        error = torch.maximum((values - returns).square(), (clipped - returns).square())
        return 0.5 * (error * present).sum(1) / present.sum(1)

    def observe(self, logps: TokenLogps) -> dict[str, Tensor]:
        """The sum of |w - 1| over tokens, and their number."""
        away = (_weights(logps) - 1).abs().detach() * logps.token_present
        return {"away": away.sum(), "tokens": logps.token_present.sum()}

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Distance of the policy from the one that sampled the answers: the mean of |w - 1|."""
        return {"ratio_deviation": sums["away"] / sums["tokens"]}

    def _gain(self, weight: Tensor, advantage: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, logps: TokenLogps) -> ObjectiveOutput:
        gain = self._gain(_weights(logps), widen(logps.advantage.detach()))
        answers = torch.where(logps.token_present, gain, 0.0).sum(2)
        return ranked_output(-answers.sum(1) / logps.present.sum(1), logps, self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ppo(ActorCritic):
    """L = -mean over answers of sum_t min(w A, clip(w, 1 - clip, 1 + clip) A), w = pi / pi_then."""

    clip: float = 0.2

    def __post_init__(self) -> None:
        ActorCritic.__post_init__(self)
        check_positive("clip", self.clip)

    def _gain(self, weight: Tensor, advantage: Tensor) -> Tensor:
        clipped = weight.clamp(1 - self.clip, 1 + self.clip)
        return torch.minimum(weight * advantage, clipped * advantage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Espo(ActorCritic):
    """L = -mean over answers of sum_t w A, until the mean of |w - 1| exceeds `max_deviation`.

    It is checked before each update: beyond it no update is made, and new answers are sampled.
    """

    max_deviation: float = 0.25

    def __post_init__(self) -> None:
        ActorCritic.__post_init__(self)
        check_positive("max_deviation", self.max_deviation)

    def exceeds_max_ratio(self, metrics: Mapping[str, float]) -> bool:
        """Whether the policy has moved too far from the one that sampled the answers."""
        return metrics["ratio_deviation"] > self.max_deviation

    def _gain(self, weight: Tensor, advantage: Tensor) -> Tensor:
        return weight * advantage


def gae(reward: Tensor, values: Tensor, *, discount: float, gae_lambda: float) -> Tensor:
    """A_t = sum_k (discount gae_lambda)^k (r_{t+k} + discount V_{t+k+1} - V_{t+k}), [N, T].

    Rewards and values are 0 after an answer's end. Source: arXiv 1506.02438, eq. 16.
    """
    advantage = torch.zeros_like(reward)
    following = torch.zeros_like(reward[:, 0])
    value_after = torch.zeros_like(following)
    for t in reversed(range(reward.shape[1])):
        surprise = reward[:, t] + discount * value_after - values[:, t]
        following = surprise + discount * gae_lambda * following
        advantage[:, t], value_after = following, values[:, t]
    return advantage


def _whitened(values: Tensor, present: Tensor) -> Tensor:
    """Mean 0 and variance 1 over those present; 0 elsewhere."""
    count = present.sum()
    centred = (values - values.sum() / count) * present
    return centred / (centred.square().sum() / count + TINY).sqrt()


def _weights(logps: TokenLogps) -> Tensor:
    """pi / pi_then of each token, [B, K, T]; 1 where there is no token."""
    ratio = widen(logps.policy_tokens) - widen(logps.sampled_tokens.detach())
    ratio = torch.where(logps.token_present, ratio, 0.0)
    return ratio.clamp(-LARGEST, LARGEST).exp()
