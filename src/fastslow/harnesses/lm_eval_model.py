"""A model class for lm-evaluation-harness: any policy of a run, including routed ones.

`python -m fastslow.harnesses.lm_eval_model run --model fastslow --model_args run=FOLDER ...` is
`lm_eval run` with this model registered. lm-eval is imported only when it starts, as fastslow does
not need it.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from fastslow.training.export.open_run import open_run
from fastslow.training.policies.policies import Policies
from fastslow.training.policies.routed import ROUTED, RoutedPolicies

NAME = "fastslow"
Ids = tuple[int, ...]


def model_class() -> type[Any]:
    """The class, which derives from lm-eval's `HFLM`: scoring, generation, stop sequences and chat
    templates are lm-eval's own. Raises ImportError without lm-eval."""
    from lm_eval.models.huggingface import HFLM

    class FastslowLM(HFLM):  # type: ignore[misc]
        """A policy of a run as a model of lm-eval.

        Args:
            run: the run folder.
            module: `leader`, a module's name, `reference`, `base`, or `routed`, which chooses a
                module for each context.
            trust_code: run the Python that the run's config.yaml names.
            device: ignored; the run's device is used.
            settings: arguments of `HFLM` besides the model and the tokenizer.
        """

        def __init__(
            self,
            run: str,
            module: str = "leader",
            trust_code: bool = False,
            device: str | None = None,
            **settings: Any,
        ) -> None:
            opened = open_run(Path(run), trust_code=trust_code)
            known = {"leader": opened.summary.leader, "reference": opened.reference}
            self._asked = opened.policies, known.get(module, module)
            model = opened.policies.modules.causal_lm
            super().__init__(pretrained=model, tokenizer=opened.tokenizer, **settings)

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            before, whole = self.tok_encode(context), self.tok_encode(context + continuation)
            boundary = shared_length(before, whole)
            return whole[:boundary] or [self.prefix_token_id], whole[boundary:]

        def _loglikelihood_tokens(self, requests: Any, **settings: Any) -> list[Any]:
            contexts = [tuple(context) for _, context, _ in requests]
            score = super()._loglikelihood_tokens
            return by_route(*self._asked, contexts, requests, lambda own: score(own, **settings))

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[Any]:
            contexts = [tuple(self.tok_encode(request.args[0])) for request in requests]
            answer = super().generate_until
            return by_route(*self._asked, contexts, requests, lambda own: answer(own, disable_tqdm))

    return FastslowLM


def shared_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix of two token sequences.

    lm-eval moves white space at the end of a context into the continuation, so a router would
    otherwise see another prompt than the one that is answered.

    >>> shared_length([5, 6, 7], [5, 6, 8, 9])
    2
    """
    prefix = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return sum(1 for _ in prefix)


def by_route(
    policies: Policies,
    policy: str,
    contexts: Sequence[Ids],
    requests: Sequence[Any],
    ask: Callable[[list[Any]], list[Any]],
) -> list[Any]:
    """The answer to each request, in order, from the module that its context is routed to.

    `ask` is called once per module, while it is active, with the module's requests.
    """
    places: dict[str, list[int]] = {}
    for place, route in enumerate(routes_of(policies, policy, contexts)):
        places.setdefault(route, []).append(place)
    answers: dict[int, Any] = {}
    for route, members in places.items():
        with policies.modules.using(route):
            answers |= zip(members, ask([requests[place] for place in members]), strict=True)
    return [answers[place] for place in range(len(requests))]


def routes_of(policies: Policies, policy: str, contexts: Sequence[Ids]) -> list[str]:
    """The module that answers each context."""
    if policy != ROUTED or not isinstance(policies, RoutedPolicies):
        return [policy] * len(contexts)
    # Each context is routed once, though several continuations may follow it, and alone: any
    # number of long ones fits into memory.
    routes = {context: policies.routes([context])[0] for context in dict.fromkeys(contexts)}
    return [routes[context] for context in contexts]


def main() -> None:
    """Run lm-eval's command with the model registered."""
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import register_model

    register_model(NAME)(model_class())
    cli_evaluate()


if __name__ == "__main__":
    main()
