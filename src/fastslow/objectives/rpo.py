"""Regularised preference optimisation: DPO and the likelihood of the chosen response.

Source: arXiv 2405.16436, Eq. 4.8 and section 6. (Not reasoning preference optimisation,
2404.19733.) The authors' implementations disagree on the length convention; both are here by name.
"""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from fastslow.objectives.containers import PairLogps, widen
from fastslow.objectives.contract import Objective, ObjectiveOutput, with_rewards
from fastslow.objectives.settings import check_not_negative, check_one_of, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpo(Objective):
    """DPO plus an anchor, by `anchor`:

        sum    - eta beta s_w          the paper and the main code (eta 0.005)
        mean   - eta s_w / n_w         the authors' OpenRLHF code (eta 0.2); no factor beta

    eta = 0 is DPO. Defaults are those of the main code's Zephyr-gemma run.
    """

    beta: float = 0.05
    eta: float = 0.005
    anchor: str = "sum"

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)
        check_not_negative("eta", self.eta)
        check_one_of("anchor", self.anchor, ("sum", "mean"))

    @property
    def needs_lengths(self) -> bool:  # type: ignore[override]
        return self.anchor == "mean" and self.eta > 0

    def __call__(self, logps: PairLogps) -> ObjectiveOutput:
        loss = -logsigmoid(self.beta * logps.delta)
        if self.anchor == "sum":
            loss = loss - self.eta * self.beta * widen(logps.policy_chosen)
        else:
            loss = loss - self.eta * logps.chosen_mean
        return with_rewards(loss, logps, self.beta)
