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
    """Appraises answers of a policy, and learns.

    Args:
        reference: name of the policy that the KL in the rewards is against.
        temperature: of the answers.
        micro_batches: prompts whose answers are scored in one pass.
    """

    policies: Policies
    objective: ActorCritic
    reference: str
    temperature: float
    micro_batches: MicroBatches

    def appraise(self, items: Sequence[Encoded]) -> list[Encoded]:
        """The items, which know the log-probs of their tokens, with what the critic makes of them.

        Advantages are whitened over all of them.
        """
        if not items:
            return []
        sampled = [torch.tensor(own) for item in items for own in item.of_tokens["sampled"]]
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
            _padded([torch.ones_like(own, dtype=torch.bool) for own in sampled]),
        )
        found = {
            "value": values,
            "advantage": list(appraisal.advantage),
            "return": list(appraisal.returns),
        }
        return _with_values(items, found)

    def _scored(self, items: Sequence[Encoded]) -> tuple[list[Tensor], list[Tensor]]:
        """Of each answer the reference's log-probs of its tokens, and the values before them."""
        reference: list[Tensor] = []
        values: list[Tensor] = []
        for own in self.micro_batches.split(items):
            batch = self.policies.batch([item.tree for item in own])
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
        """Differentiate the loss of the values before the batch's tokens, mean over answers.

        Returns that loss, and the share of the returns' variance that the values explain.
        """
        answers = sum(len(item.tree.responses) for item in batch)
        processes, total = self.policies.processes, 0.0
        found: list[float] = []
        wanted: list[float] = []
        for items, is_real in self.micro_batches.shares(batch):
            trees = self.policies.batch([item.tree for item in items])
            values = self._values(trees, learning=True)
            lengths, device = trees.lengths.tolist(), values.device
            returns, then = (
                torch.tensor(
                    [v for item in items for own in item.of_tokens[name] for v in own],
                    device=device,
                )
                for name in ("return", "value")
            )
            loss = (
                self.objective.value_loss(
                    _padded(values.split(lengths)),
                    _padded(then.split(lengths)),
                    _padded(returns.split(lengths)),
                    _padded(torch.ones_like(returns, dtype=torch.bool).split(lengths)),
                ).sum()
                / answers
            )
            backward(loss * is_real)
            if is_real:
                total += loss.item()
                found += values.tolist()
                wanted += returns.tolist()
        total = sum(processes.all_gather(total))
        values, returns = (torch.tensor(processes.gather(own)) for own in (found, wanted))
        variance = returns.var(correction=0).clamp(min=1e-12)
        explained = 1 - (returns - values).var(correction=0) / variance
        return {"loss": total, "explained_variance": explained.item()}


def _padded(values: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(values), batch_first=True)


def _with_values(items: Sequence[Encoded], found: dict[str, list[Tensor]]) -> list[Encoded]:
    """The items with values of each token, padded or not, of all their answers in a row."""
    streams = {name: iter(values) for name, values in found.items()}
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
