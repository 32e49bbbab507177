"""What an adapter says where nothing is left to chance, token by token.

It stands in an update's record, so that whatever serves the adapter can be told from one that
serves something else: another base, another template, no adapter at all.
"""

from collections.abc import Sequence
from typing import Any

from fastslow.api.learner import Learner
from fastslow.api.view import prompt_of
from fastslow.scoring import Tree

PROMPTS = 3
TOKENS = 16
"""Of each answer."""


class Probes:
    """Asks a learner's policies.

    Args:
        learner: whose base the adapters are on.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def of(self, policy: str, prompts: Sequence[Any]) -> list[dict[str, Any]]:
        """The likeliest answers of a policy to the first prompts, as JSON: `messages`, `tokens`,
        and `logps`, the log-probs of each token, nats."""
        asked = [one["prompt"] for one in prompts[:PROMPTS]]
        if not asked:
            return []
        policies, encoder = self._learner.core.policies, self._learner.encoder
        ids = [encoder.prompt_ids_of(prompt_of(one), room=TOKENS) for one in prompts[:PROMPTS]]
        ends = sorted(encoder.end_ids)
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
