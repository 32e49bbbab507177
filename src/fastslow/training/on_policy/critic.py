"""The critic of PPO: a separate module with a head that predicts the score of a completion.

It values completions when they are sampled and trains alongside the policy without changing it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fastslow.objectives import ActorCritic
from fastslow.records import Ranking
from fastslow.scoring import Encoded, TreeBatch
from fastslow.training.memory.micro_batches import MicroBatches
from fastslow.training.policies.loading import CRITIC
from fastslow.training.policies.policies import Policies


@dataclass(frozen=True, slots=True)
class Critic:
    """Values a policy's completions, and learns to.

    Args:
        reference: name of the policy that the KL in the rewards is measured against.
        temperature: of the completions.
        micro_batches: prompts whose completions are scored in one pass.
    """

    policies: Policies
    objective: ActorCritic
    reference: str
    temperature: float
    micro_batches: MicroBatches

    def appraise(self, items: Sequence[Encoded]) -> list[Encoded]:
        """The items, which have their tokens' log-probs, with values, advantages and returns added.

        Advantages are whitened over all items.
        """
        if not items:
            return []
        sampled = [torch.tensor(logps) for item in items for logps in item.of_tokens["sampled"]]
        reference, values = self._scored(items)
        scores = [
            score
            for item in items
            if isinstance(item.example, Ranking)
            for score in item.example.scores or ()
        ]
        appraisal = self.objective.appraise(
            torch.tensor(scores),
            _padded(sampled),
            _padded(reference),
            _padded(values),
            _padded([torch.ones_like(logps, dtype=torch.bool) for logps in sampled]),
        )
        per_token = {
            "value": values,
            "advantage": list(appraisal.advantage),
            "return": list(appraisal.returns),
        }
        return _with_values(items, per_token)

    def _scored(self, items: Sequence[Encoded]) -> tuple[list[Tensor], list[Tensor]]:
        """Per completion, the reference's log-probs of its tokens and the values before them."""
        reference: list[Tensor] = []
        values: list[Tensor] = []
        for chunk in self.micro_batches.split(items):
            batch = self.policies.batch([item.tree for item in chunk])
            lengths = batch.lengths.tolist()
            tokens = self.policies.measure(
                self.reference, batch, temperature=self.temperature
            ).tokens
            reference += tokens.cpu().split(lengths)
            values += self._values(batch).cpu().split(lengths)
        return reference, values

    def _values(self, batch: TreeBatch, *, learning: bool = False) -> Tensor:
        return self.policies.values(CRITIC, batch, where="predictors", learning=learning)

    def add_gradients(
        self, batch: Sequence[Encoded], *, backward: Callable[[Tensor], None]
    ) -> dict[str, float]:
        """Backpropagate the loss of the values before the batch's tokens, mean over completions.

        Returns that loss, and the share of the returns' variance that the values explain.
        """
        num_completions = sum(len(item.tree.responses) for item in batch)
        processes, total = self.policies.processes, 0.0
        predicted: list[float] = []
        targets: list[float] = []
        for items, is_real in self.micro_batches.shares(batch):
            trees = self.policies.batch([item.tree for item in items])
            values = self._values(trees, learning=True)
            lengths, device = trees.lengths.tolist(), values.device
            returns, old_values = (
                torch.tensor(
                    [v for item in items for row in item.of_tokens[name] for v in row],
                    device=device,
                )
                for name in ("return", "value")
            )
            loss = (
                self.objective.value_loss(
                    _padded(values.split(lengths)),
                    _padded(old_values.split(lengths)),
                    _padded(returns.split(lengths)),
                    _padded(torch.ones_like(returns, dtype=torch.bool).split(lengths)),
                ).sum()
                / num_completions
            )
            backward(loss * is_real)
            if is_real:
                total += loss.item()
                predicted += values.tolist()
                targets += returns.tolist()
        total = sum(processes.all_gather(total))
        values, returns = (torch.tensor(processes.gather(v)) for v in (predicted, targets))
        variance = returns.var(correction=0).clamp(min=1e-12)
        explained = 1 - (returns - values).var(correction=0) / variance
        return {"loss": total, "explained_variance": explained.item()}


def _padded(values: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(values), batch_first=True)


def _with_values(items: Sequence[Encoded], per_token: dict[str, list[Tensor]]) -> list[Encoded]:
    """The items with values per token; `per_token` has a tensor, padded or not, per completion."""
    streams = {name: iter(values) for name, values in per_token.items()}
    return [
        replace(
            item,
            of_tokens={
                **item.of_tokens,
                **{
                    name: tuple(
                        tuple(next(stream)[: len(response)].tolist())
                        for response in item.tree.responses
                    )
                    for name, stream in streams.items()
                },
            },
        )
        for item in items
    ]
