"""A model class for lm-evaluation-harness: any policy of a run, also one that routes prompts.

`python -m fastslow.harnesses.lm_eval_model run --model fastslow --model_args run=FOLDER ...` is
`lm_eval run` that knows this model. lm-eval is imported when it starts, as fastslow does not need
it.
"""

from itertools import takewhile
from pathlib import Path
from typing import Any

from fastslow.training.export.open_run import open_run
from fastslow.training.policies.routed import ROUTED, RoutedPolicies

NAME = "fastslow"


def model_class() -> type[Any]:
    """The class, which derives from lm-eval's `HFLM`: scoring, generation, stop sequences and chat
    templates are lm-eval's own. Raises ImportError without lm-eval."""
    from lm_eval.models.huggingface import HFLM

    class FastslowLM(HFLM):  # type: ignore[misc]
        """A policy of a run as lm-eval asks it.

        Args:
            run: the run folder.
            module: `leader`, a module's name, `reference`, `base`, or `routed`, which chooses a
                module for each context.
            trust_code: run the Python that the run's config.yaml names.
            settings: those of `HFLM` besides the model, the tokenizer and the device.
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
            self._policies = opened.policies
            known = {"leader": opened.summary.leader, "reference": opened.reference}
            self._policy = known.get(module, module)
            model = opened.policies.modules.causal_lm
            super().__init__(pretrained=model, tokenizer=opened.tokenizer, **settings)

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            # lm-eval counts white space at the end of a context to its continuation. A router
            # would be asked about another prompt than the one that is answered.
            before, whole = self.tok_encode(context), self.tok_encode(context + continuation)
            same = takewhile(lambda pair: pair[0] == pair[1], zip(before, whole, strict=False))
            boundary = sum(1 for _ in same)
            return whole[:boundary] or [self.prefix_token_id], whole[boundary:]

        def _loglikelihood_tokens(self, requests: Any, **settings: Any) -> list[Any]:
            contexts = [tuple(context) for _, context, _ in requests]
            score = super()._loglikelihood_tokens
            return self._by_route(contexts, requests, lambda own: score(own, **settings))

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[Any]:
            contexts = [tuple(self.tok_encode(request.args[0])) for request in requests]
            answer = super().generate_until
            return self._by_route(contexts, requests, lambda own: answer(own, disable_tqdm))

        def _by_route(self, contexts: list[Any], requests: Any, ask: Any) -> list[Any]:
            """What each request is answered by the module that its context is routed to."""
            places: dict[str, list[int]] = {}
            for place, route in enumerate(self._routes(contexts)):
                places.setdefault(route, []).append(place)
            answers: dict[int, Any] = {}
            for route, own in places.items():
                with self._policies.modules.using(route):
                    answers |= zip(own, ask([requests[place] for place in own]), strict=True)
            return [answers[place] for place in range(len(requests))]

        def _routes(self, contexts: list[Any]) -> list[str]:
            if self._policy != ROUTED or not isinstance(self._policies, RoutedPolicies):
                return [self._policy] * len(contexts)
            found: dict[Any, str] = {}
            distinct = list(dict.fromkeys(contexts))
            for first in range(0, len(distinct), self.batch_size):
                group = distinct[first : first + self.batch_size]
                found |= zip(group, self._policies.routes(group), strict=True)
            return [found[context] for context in contexts]

    return FastslowLM


def main() -> None:
    """Run lm-eval's command with the model registered."""
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.api.registry import register_model

    register_model(NAME)(model_class())
    cli_evaluate()


if __name__ == "__main__":
    main()
