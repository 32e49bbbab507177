"""Probes: an adapter's greedy answers to a few prompts, with log-probs per token.

They are part of an update's record. They show whether an engine serves the adapter or something
else: another base, another template, no adapter at all.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from fastslow.api.learner import Learner
from fastslow.api.view import prompt_of
from fastslow.scoring import Tree

PROMPTS = 3
TOKENS = 16
"""Tokens of each answer."""
SHORT = {"prompt": [{"role": "user", "content": "Hello"}]}
"""The prompt used if no other is read whole."""


class Probes:
    """Makes probes of policies on a learner's base.

    Args:
        learner: the adapters are on its base.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def of(self, policy: str, prompts: Sequence[Any]) -> list[dict[str, Any]]:
        """A policy's greedy answers to the first prompts that the learner reads whole, as JSON:
        `messages`, `tokens`, and `logps`, the log-prob of each token, nats. Empty if there are no
        prompts, or the learner has no room even for one word and an answer."""
        if not prompts:
            return []
        chosen = [*islice(self._whole(prompts), PROMPTS)] or [*self._whole([SHORT])]
        if not chosen:
            return []
        asked, ids = zip(*chosen, strict=True)
        policies, ends = self._learner.core.policies, sorted(self._learner.encoder.end_ids)
        limits = {"end_ids": ends, "max_new_tokens": TOKENS, "seed": 0, "temperature": 0.0}
        answers = [answer.tokens for (answer,) in policies.generate(policy, ids, **limits)]
        # Each prefix is scored as a response: what a token adds to the sum is its log-prob.
        prefixes = [tuple(answer[: end + 1] for end in range(len(answer))) for answer in answers]
        trees = [Tree(prompt, responses) for prompt, responses in zip(ids, prefixes, strict=True)]
        sums = policies.score(policy, policies.batch(trees)).split(
            [len(answer) for answer in answers]
        )
        return [
            {
                "messages": messages,
                "tokens": list(tokens),
                "logps": cumulative.diff(prepend=cumulative.new_zeros(1)).tolist(),
            }
            for messages, tokens, cumulative in zip(asked, answers, sums, strict=True)
        ]

    def _whole(self, prompts: Sequence[Any]) -> Iterator[tuple[Any, tuple[int, ...]]]:
        """The messages and tokens of prompts that fit the learner together with an answer. An
        engine reads longer ones whole too, and answers them with other log-probs than the learner,
        which truncates them."""
        encoder = self._learner.encoder
        for prompt in prompts:
            ids = encoder.whole_prompt_ids_of(prompt_of(prompt))
            if len(ids) + TOKENS <= encoder.max_length:
                yield prompt["prompt"], ids
