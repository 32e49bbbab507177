"""The reverse KL on fresh completions, added to an objective on stored examples (HyPO).

Source: arXiv 2406.01462, Algorithm 1, with the leave-one-out baseline. An offline
objective does not control what stored pairs do not cover; fresh completions show that drift.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from fastslow.config import OnlineKlConfig
from fastslow.evaluation import MetricSums
from fastslow.objectives.sampled import reverse_kl_surrogate, sampled_reverse_kl
from fastslow.scoring import Encoded, Encoder, Tree
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.on_policy.generation import sample
from fastslow.training.policies.policies import Policies, answered


@dataclass(frozen=True, slots=True)
class OnlineKl:
    """Adds the gradient of weight times KL(policy || reference) on the batch's prompts."""

    config: OnlineKlConfig
    policies: Policies
    encoder: Encoder
    micro_batches: MicroBatches
    """Prompts whose answers are scored in one pass."""

    def add_gradients(
        self,
        names: Sequence[str],
        batch: Sequence[Encoded],
        *,
        reference: str,
        seed: int,
        backward: Callable[[Tensor], None],
    ) -> dict[str, dict[str, float]]:
        """Sample from each of the policies, score and differentiate.

        Returns for each the estimated KL (nats per completion) and the mean length (tokens).
        """
        return {name: self._add_gradient(name, batch, reference, seed, backward) for name in names}

    def _add_gradient(
        self,
        name: str,
        batch: Sequence[Encoded],
        reference: str,
        seed: int,
        backward: Callable[[Tensor], None],
    ) -> dict[str, float]:
        trees = self._answered(name, batch[: self.config.prompts], seed)
        processes, totals = self.policies.processes, MetricSums()
        for own, is_real in self.micro_batches.shares(trees):
            policy, against = self._scores(name, reference, own)
            surrogate = reverse_kl_surrogate(policy, against).mean(1).sum()
            backward(self.config.weight * surrogate * is_real / len(trees))
            if not is_real:
                continue
            length = sum(len(answer) for tree in own for answer in tree.responses)
            sums = {
                "reverse_kl": sampled_reverse_kl(policy, against).sum().item(),
                "mean_length": length / self.config.num_generations,
            }
            totals.add(sums, count=len(own))
        return processes.merged(totals).means()

    def _answered(self, name: str, batch: Sequence[Encoded], seed: int) -> list[Tree]:
        """Each prompt with the policy's answers, shortest first."""
        room = self.config.max_new_tokens
        prompts = [self.encoder.prompt_ids_of(item.example, room=room) for item in batch]
        prompts.sort(key=len)
        answers = sample(self.policies, name, self.encoder, self.config, prompts, seed=seed)
        return answered(prompts, answers)

    def _scores(self, name: str, reference: str, trees: list[Tree]) -> tuple[Tensor, Tensor]:
        """Log-probs under the policy, with gradient, and under the reference, [P, K]."""
        batch, temperature = self.policies.batch(trees), self.config.temperature
        # Without dropout: the answers were given without it.
        policy = self.policies.measure(
            name, batch, temperature=temperature, learning=True, dropout=False
        )
        against = self.policies.measure(reference, batch, temperature=temperature)
        shape = (len(trees), self.config.num_generations)
        return policy.sums.view(shape), against.sums.view(shape)
