"""What an adapter says where nothing is left to chance, token by token.

It stands in an update's record, so that whatever serves the adapter can be told from one that
serves something else: another base, another template, no adapter at all.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from fastslow.api.learner import Learner
from fastslow.api.view import prompt_of
from fastslow.scoring import Tree

PROMPTS = 3
TOKENS = 16
"""Of each answer."""
SHORT = {"prompt": [{"role": "user", "content": "Hello"}]}
"""Is asked where no other prompt is read whole."""


class Probes:
    """Asks a learner's policies.

    Args:
        learner: whose base the adapters are on.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def of(self, policy: str, prompts: Sequence[Any]) -> list[dict[str, Any]]:
        """The likeliest answers of a policy to the first prompts that the learner reads whole, as
        JSON: `messages`, `tokens`, and `logps`, the log-probs of each token, nats. None where there
        are no prompts, or the learner has no room even for a word and an answer."""
        if not prompts:
            return []
        chosen = [*islice(self._whole(prompts), PROMPTS)] or [*self._whole([SHORT])]
        if not chosen:
            return []
        asked, ids = zip(*chosen, strict=True)
        policies, ends = self._learner.core.policies, sorted(self._learner.encoder.end_ids)
        limits = {"end_ids": ends, "max_new_tokens": TOKENS, "seed": 0, "temperature": 0.0}
        said = [answer.tokens for (answer,) in policies.generate(policy, ids, **limits)]
        # Every beginning is a response of its own: what a token adds to it is its log-prob.
        begun = [tuple(own[: end + 1] for end in range(len(own))) for own in said]
        trees = [Tree(prompt, own) for prompt, own in zip(ids, begun, strict=True)]
        sums = policies.score(policy, policies.batch(trees)).split([len(own) for own in said])
        return [
            {
                "messages": messages,
                "tokens": list(tokens),
                "logps": own.diff(prepend=own.new_zeros(1)).tolist(),
            }
            for messages, tokens, own in zip(asked, said, sums, strict=True)
        ]

    def _whole(self, prompts: Sequence[Any]) -> Iterator[tuple[Any, tuple[int, ...]]]:
        """The messages and tokens of prompts that the learner has room for with an answer. What
        serves an adapter reads longer ones whole too, and answers them with other log-probs than
        the learner, which cuts them."""
        encoder = self._learner.encoder
        for one in prompts:
            ids = encoder.whole_prompt_ids_of(prompt_of(one))
            if len(ids) + TOKENS <= encoder.max_length:
                yield one["prompt"], ids
