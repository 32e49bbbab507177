"""beta-DPO: beta follows the mean margin of a batch, and outliers are skipped.

Source: arXiv 2407.08639; junkangwu/beta-DPO, `trainers.py`. Log-probs are summed over tokens.
Deviations: the running mean and deviation are corrected for starting at 0 and are those of the
previous steps; the first step has none, so beta is the given one and no pair is an outlier.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from fastslow.objectives import running
from fastslow.objectives.containers import PairLogps, needed
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_not_negative, check_positive, check_range

LEAST_BETA = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaDpo(Objective):
    """L = -logsigmoid(b Delta), b = max(beta (1 + gain (mean Delta - running mean)), 1e-3).

    A share `filter` of the batch is skipped, the rest sampled without replacement with weights
    exp(-((Delta - mean) / deviation)^2 / 2) by the random numbers in `extras["uniform"]`; the mean
    is over the kept pairs, whose loss stands for all. gain = filter = 0 is DPO. Defaults are
    the official example's.
    """

    beta: float = 0.1
    gain: float = 0.6
    filter: float = 0.2
    decay: float = 0.9

    coupled = True

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("gain", self.gain)
        check_range("filter", self.filter, 0.0, 1.0)
        check_range("decay", self.decay, 0.0, 1.0)

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("uniform",) if self.filter else ()

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        return with_rewards(self._loss(logps, logps.delta), logps, self.beta)

    def opposite_loss(self, logps: PairLogps) -> Tensor:
        return self._loss(logps, -logps.delta)

    def _loss(self, logps: PairLogps, delta: Tensor) -> Tensor:
        """Of some gaps, with the beta and the outliers of the batch as it is labelled."""
        labelled = logps.delta.detach()
        kept = self._kept(labelled, logps)
        share = kept.to(delta.dtype).mean()
        beta = self._batch_beta(labelled[kept].mean(), logps.state)
        return -logsigmoid(beta * delta) * kept / share

    def _kept(self, delta: Tensor, logps: PairLogps) -> Tensor:
        keep = max(1, round((1 - self.filter) * len(delta)))
        if keep == len(delta):
            return torch.ones_like(delta, dtype=torch.bool)
        log_weight = torch.zeros_like(delta)
        if before := running.moments(logps.state):
            log_weight = -0.5 * ((delta - before.mean) / max(before.deviation, 1e-6)) ** 2
        # The largest log-weights with Gumbel noise are a sample without replacement.
        noise = -torch.log(-needed(logps, "uniform").clamp(1e-12, 1 - 1e-7).log())
        kept = torch.zeros_like(delta, dtype=torch.bool)
        kept[(log_weight + noise).topk(keep).indices] = True
        return kept

    def _batch_beta(self, mean: Tensor, state: Mapping[str, float]) -> Tensor:
        before = running.moments(state)
        surplus = mean - before.mean if before else torch.zeros_like(mean)
        return (self.beta * (1 + self.gain * surplus)).clamp(min=LEAST_BETA)

    def initial_state(self) -> dict[str, float]:
        return running.fresh()

    def observe(self, logps: PairLogps) -> dict[str, Tensor]:
        return running.sums(logps.delta)

    def advance(
        self, state: Mapping[str, float], sums: Mapping[str, float], count: int
    ) -> dict[str, float]:
        return running.advanced(state, sums, count, decay=self.decay)
