"""Reward models in the same loop: a module with a head on the last token of a response.

Where a policy has the sum of log-probs a reward model has its reward, and the reference, like every
module to begin with, gives 0. DPO's loss of the difference is then Bradley and Terry's model.
"""

from collections.abc import Sequence

from fastslow.adapters import BASE
from fastslow.scoring import Scores, TreeBatch
from fastslow.training.policies.policies import Policies


class RewardPolicies(Policies):
    """Scores responses by reward; only the named module's own, BASE gives 0."""

    def measure(
        self,
        name: str,
        batch: TreeBatch,
        *,
        statistics: Sequence[str] = (),
        temperature: float = 1.0,
        learning: bool = False,
        dropout: bool = True,
    ) -> Scores:
        """As of policies, with the reward for the sums; no statistics, and no tokens."""
        rewards = (
            batch.lengths.new_zeros(len(batch.lengths)).float()
            if name == BASE
            else self.values(name, batch, where="ends", learning=learning)
        )
        return Scores(rewards, tokens=rewards.new_empty(0))
