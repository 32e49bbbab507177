"""Measurements on held-out pairs and on fresh samples, through the one scoring path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from fastslow.evaluation import Tally, pair_accuracy
from fastslow.objectives import Objective
from fastslow.sampling import Sample, generate
from fastslow.scoring import EncodedPair, Encoder, Tree
from fastslow.training.policies import Policies
from fastslow.training.preferences import pair_logps

Progress = Callable[[int, int], None]
"""Told how many of how many items are done."""

TOKENS_AT_ONCE = 8192
"""Padded tokens of one forward pass."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a policy does on held-out data. Log-probs in nats a response, lengths in tokens."""

    pairs: int
    accuracy: float
    """Share of pairs with Delta > 0, ties counting half."""
    loss: float
    """Mean of the objective."""
    margin: float
    """Mean of Delta = m - m_ref."""
    chosen_logp: float
    rejected_logp: float
    chosen_log_ratio: float
    """Mean of log pi - log pi_ref of the chosen responses: how far their likelihood moved."""
    rejected_log_ratio: float
    reverse_kl: float | None
    """Mean of log pi - log pi_ref over answers sampled from the policy; None without samples."""
    mean_length: float | None
    """Mean tokens of the sampled answers."""
    ended: float | None
    """Share of the sampled answers that ended by themselves."""


class HeldOut:
    """Held-out pairs, with the reference's scores remembered after the first measurement.

    Args:
        pairs: encoded pairs.
        encoder: for the prompts that are answered.
        samples: how many distinct prompts are answered.
        sample_tokens: longest answer, in tokens.
    """

    def __init__(
        self,
        pairs: Sequence[EncodedPair],
        encoder: Encoder,
        *,
        samples: int,
        sample_tokens: int,
        seed: int,
    ) -> None:
        self.pairs = sorted(pairs, key=lambda item: item.tree.num_tokens)
        self._end_ids = sorted(encoder.end_ids)
        self._sample_tokens = sample_tokens
        self._seed = seed
        self._reference: list[torch.Tensor] = []
        distinct = {item.pair.prompt: None for item in pairs}
        answered = islice(distinct, samples)
        prompts = [encoder.prompt_ids(prompt, room=sample_tokens) for prompt in answered]
        self._prompts = sorted(prompts, key=len)

    def measure(
        self,
        policies: Policies,
        name: str,
        *,
        reference: str,
        objective: Objective,
        progress: Progress,
    ) -> Measurement:
        """The named policy against the reference."""
        tally = Tally()
        groups = _groups([item.tree for item in self.pairs])
        total = len(self.pairs) + len(self._prompts)
        for index, group in enumerate(groups):
            batch = policies.batch(group)
            if index == len(self._reference):
                self._reference.append(policies.score(reference, batch))
            logps = pair_logps(policies.score(name, batch), self._reference[index], batch)
            delta = logps.policy_margin - logps.reference_margin
            values = {
                "accuracy": pair_accuracy(delta),
                "loss": objective(logps).loss,
                "margin": delta,
                "chosen_logp": logps.policy_chosen,
                "rejected_logp": logps.policy_rejected,
                "chosen_log_ratio": logps.chosen_log_ratio,
                "rejected_log_ratio": logps.rejected_log_ratio,
            }
            sums = {key: value.double().sum().item() for key, value in values.items()}
            tally.add(sums, count=len(group))
            progress(tally.count, total)
        sampled = self._measure_samples(
            policies, name, reference, lambda done: progress(tally.count + done, total)
        )
        return Measurement(pairs=tally.count, **tally.means(), **sampled)

    def _measure_samples(
        self, policies: Policies, name: str, reference: str, progress: Callable[[int], None]
    ) -> dict[str, float | None]:
        if not self._prompts:
            return {"reverse_kl": None, "mean_length": None, "ended": None}
        tally = Tally()
        for first in range(0, len(self._prompts), 32):
            prompts = self._prompts[first : first + 32]
            answers = self._answer(policies, name, prompts, seed=self._seed + first)
            trees = [
                Tree(prompt, (answer.tokens,))
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
            batch = policies.batch(trees)
            log_ratio = policies.score(name, batch) - policies.score(reference, batch)
            tally.add(
                {
                    "reverse_kl": log_ratio.double().sum().item(),
                    "mean_length": float(sum(len(answer.tokens) for answer in answers)),
                    "ended": float(sum(answer.ended for answer in answers)),
                },
                count=len(answers),
            )
            progress(tally.count)
        return dict(tally.means())

    def _answer(
        self, policies: Policies, name: str, prompts: Sequence[tuple[int, ...]], *, seed: int
    ) -> list[Sample]:
        with policies.sampling(name):
            answers = generate(
                policies.modules.causal_lm,
                prompts,
                end_ids=self._end_ids,
                pad_id=policies.pad_id,
                max_new_tokens=self._sample_tokens,
                seed=seed,
            )
        return [answer for (answer,) in answers]


def _groups(trees: Sequence[Tree]) -> list[list[Tree]]:
    """Runs of trees, sorted by length, of at most TOKENS_AT_ONCE padded tokens each."""
    groups: list[list[Tree]] = []
    for tree in trees:
        if not groups or (len(groups[-1]) + 1) * tree.num_tokens > TOKENS_AT_ONCE:
            groups.append([])
        groups[-1].append(tree)
    return groups
