"""The reverse KL of a policy, measured on its own answers to a few prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastslow.config import Recipe
from fastslow.records import Example, Prompt
from fastslow.scoring import Encoder, Tree
from fastslow.training.policies.policies import PROMPTS_AT_ONCE, Policies, answered, in_passes


def longest_answer(recipe: Recipe) -> int:
    """Longest answer on which a KL is measured, in tokens."""
    return min(recipe.eval.max_new_tokens, recipe.data.max_length // 2)


@dataclass(frozen=True, slots=True)
class AnswerKl:
    """Measures policies by their own answers.

    The same prompts with the same seed are answered with the same random numbers, so that two
    strengths of a policy can be compared on a few prompts.
    """

    policies: Policies
    encoder: Encoder
    max_new_tokens: int
    """Longest answer, in tokens."""

    @classmethod
    def of(cls, recipe: Recipe, policies: Policies, encoder: Encoder) -> "AnswerKl":
        """Answers are as long as in the recipe's evaluation, or as prompts leave room for."""
        return cls(policies, encoder, longest_answer(recipe))

    def measure(
        self, name: str, reference: str, prompts: Sequence[Prompt | Example], *, seed: int
    ) -> float:
        """KL(policy || reference), nats per answer: of all predictions along one answer to each
        prompt. It varies less than the log-ratios of the answers themselves."""
        total = 0.0
        for trees in self._answered(name, prompts, seed):
            kl = self.policies.kl(name, reference, self.policies.batch(trees))
            total += kl.cpu().double().sum().item()
        return total / len(prompts)

    def mean_length(self, name: str, prompts: Sequence[Prompt | Example], *, seed: int) -> float:
        """Mean length of a policy's answers, in tokens."""
        answered = self._answered(name, prompts, seed)
        return sum(len(tree.responses[0]) for trees in answered for tree in trees) / len(prompts)

    def _answered(
        self, name: str, prompts: Sequence[Prompt | Example], seed: int
    ) -> Iterator[list[Tree]]:
        """The prompts in batches, each with the policy's answer."""
        encoded = [
            self.encoder.prompt_ids_of(prompt, room=self.max_new_tokens) for prompt in prompts
        ]
        encoded.sort(key=len)
        for first in range(0, len(encoded), PROMPTS_AT_ONCE):
            group = encoded[first : first + PROMPTS_AT_ONCE]
            answers = self.policies.generate(
                name,
                group,
                end_ids=sorted(self.encoder.end_ids),
                max_new_tokens=self.max_new_tokens,
                seed=seed + first,
                num_generations=1,
            )
            yield from in_passes(answered(group, answers))
