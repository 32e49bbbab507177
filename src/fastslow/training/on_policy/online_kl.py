"""The reverse KL on fresh completions, added to an objective on stored examples (HyPO).

Source: arXiv 2406.01462, Algorithm 1, with the mean of the batch's other prompts as the baseline,
whose gradient has half the variance of the paper's. An offline objective does not control what
stored pairs do not cover; fresh completions show that drift.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastslow.config import OnlineKlConfig
from fastslow.objectives.sampled import (
    less_other_prompts,
    reverse_kl_surrogate,
    sampled_reverse_kl,
)
from fastslow.scoring import Encoded, Encoder, Tree, TreeBatch
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
    """Prompts whose completions are scored in one pass."""

    def add_gradients(
        self,
        names: Sequence[str],
        batch: Sequence[Encoded],
        *,
        reference: str,
        seed: int,
        backward: Callable[[Tensor], None],
    ) -> dict[str, dict[str, float]]:
        """Sample from each of the policies, score the completions and backpropagate.

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
        log_ratio = self._log_ratio(name, reference, trees)
        weighted = list(zip(trees, less_other_prompts(log_ratio), strict=True))
        for chunk, is_real in self.micro_batches.shares(weighted):
            answers = self.policies.batch([tree for tree, _ in chunk])
            policy = self._scores(name, answers, learning=True)
            coefficients = torch.stack([row for _, row in chunk]).to(policy)
            surrogate = reverse_kl_surrogate(policy, coefficients).mean(1).sum()
            backward(self.config.weight * surrogate * is_real / len(trees))
        lengths = [len(answer) for tree in trees for answer in tree.responses]
        return {
            "reverse_kl": sampled_reverse_kl(log_ratio).mean().item(),
            "mean_length": sum(lengths) / len(lengths),
        }

    def _log_ratio(self, name: str, reference: str, trees: list[Tree]) -> Tensor:
        """log pi - log pi_ref of all processes' completions, [P, K], float64. The baseline of a
        prompt is taken over all the others, so it must be known before learning from any."""
        log_ratios = []
        for chunk, is_real in self.micro_batches.shares(trees):
            batch = self.policies.batch(chunk)  # One batch, so shared layers run once for both.
            gaps = self._scores(name, batch) - self._scores(reference, batch)
            log_ratios += gaps.tolist() if is_real else []
        return torch.tensor(self.policies.processes.gather(log_ratios), dtype=torch.float64)

    def _answered(self, name: str, batch: Sequence[Encoded], seed: int) -> list[Tree]:
        """Each prompt with the policy's completions, shortest prompt first."""
        room = self.config.max_new_tokens
        prompts = [self.encoder.prompt_ids_of(item.example, room=room) for item in batch]
        prompts.sort(key=len)
        answers = sample(self.policies, name, self.encoder, self.config, prompts, seed=seed)
        return answered(prompts, answers)

    def _scores(self, name: str, batch: TreeBatch, *, learning: bool = False) -> Tensor:
        """Log-probs of the completions under the named policy, [P, K]."""
        # Without dropout, because the completions were sampled without it.
        scores = self.policies.measure(
            name,
            batch,
            temperature=self.config.temperature,
            learning=learning,
            dropout=False,
        )
        return scores.sums.view(-1, self.config.num_generations)
