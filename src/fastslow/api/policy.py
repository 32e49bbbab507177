"""What every trained policy can do: generate, score, be evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from fastslow.api.rows import sources_of
from fastslow.api.view import (
    Answer,
    RowScore,
    View,
    checked_prompts,
    encode_rows,
    eval_recipe,
    judge_of,
    prompt_of,
    row_score,
    warn_of_unasked_judge,
)
from fastslow.errors import ConfigError, DataError
from fastslow.scoring import Encoded, RenderedPair, rendered_pair
from fastslow.training.budget.answer_kl import AnswerKl
from fastslow.training.loop.evaluator import (
    EvalResult,
    held_out,
    held_out_examples,
    length_groups,
)
from fastslow.training.policies.policies import PROMPTS_AT_ONCE
from fastslow.training.state.event_log import Progress, unwatched


class PolicyMethods(ABC):
    """Generates, scores and is measured with the policies that `_view` opens."""

    @abstractmethod
    def _view(self) -> View:
        """The policies."""

    def generate(
        self,
        prompts: Iterable[Any],
        *,
        num_generations: int = 1,
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        module: str = "leader",
    ) -> list[list[str]]:
        """Sampled answers: for each prompt a list of `num_generations` texts.

        Args:
            prompts: text, lists of messages with `role` and `content`, or rows with a `prompt`,
                whose `tools` and `chat_template_kwargs` the chat template is given.
            num_generations: answers to each prompt.
            max_new_tokens: longest answer, tokens. Default: 128, or half of max_length if less.
            temperature: 1 samples the policy itself, 0 takes the likeliest token.
            top_p: nucleus to sample from, above 0 to 1.
            seed: the same seed gives the same answers to the same prompts.
            module: `leader`, a module's name, `reference` or `base`.

        Raises ConfigError for a setting or a prompt that is not allowed.
        """
        found = self.answers(
            prompts,
            num_generations=num_generations,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            module=module,
        )
        return [[answer.text for answer in answers] for answers in found]

    def answers(
        self,
        prompts: Iterable[Any],
        *,
        num_generations: int = 1,
        max_new_tokens: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        module: str = "leader",
    ) -> list[list[Answer]]:
        """As `generate`, with the length of each answer and whether it was cut off."""
        view = self._view()
        asked = checked_prompts(view, prompts, num_generations, temperature, top_p, seed)
        room = view.room(max_new_tokens)
        policy = view.policy(module)
        ids = [view.encoder.prompt_ids_of(prompt, room=room) for prompt in asked]
        found: list[list[Answer]] = []
        for first in range(0, len(ids), PROMPTS_AT_ONCE):
            sampled = view.policies.generate(
                policy,
                ids[first : first + PROMPTS_AT_ONCE],
                end_ids=sorted(view.encoder.end_ids),
                max_new_tokens=room,
                seed=seed + first,
                temperature=temperature,
                top_p=top_p,
                num_generations=num_generations,
            )
            for own in sampled:
                texts = [view.tokenizer.decode(a.tokens, skip_special_tokens=True) for a in own]
                found.append(
                    [
                        Answer(text, len(answer.tokens), answer.truncated)
                        for text, answer in zip(texts, own, strict=True)
                    ]
                )
        return found

    def prompt_text(self, prompt: Any, *, max_new_tokens: int | None = None) -> str:
        """What the model is given to answer: the prompt in its template, truncated to fit."""
        view = self._view()
        room = view.room(max_new_tokens)
        asked = prompt_of(prompt, view.recipe.data.columns)
        ids = view.encoder.prompt_ids_of(asked, room=room)
        return str(view.tokenizer.decode(ids))

    def score(self, rows: Any, *, module: str = "leader") -> list[RowScore]:
        """Log-probs (nats) and margin (nats) of each row, in their order.

        Args:
            rows: rows in TRL's formats, Examples, a datasets.Dataset, or paths.
            module: as of `generate`.

        A row that cannot be scored says why in `skipped`. Raises DataError where none can.
        """
        view = self._view()
        policy = view.policy(module)
        encoded = encode_rows(view, rows)
        items = [item for item in encoded if isinstance(item, Encoded)]
        scores: dict[int, RowScore] = {}
        for group in length_groups(items):
            batch = view.policies.batch([item.tree for item in group])
            own = view.policies.score(policy, batch).tolist()
            reference = view.policies.score(view.reference, batch).tolist()
            for item in group:
                count = len(item.tree.responses)
                scores[id(item)] = row_score(item, own[:count], reference[:count])
                own, reference = own[count:], reference[count:]
        return [
            scores[id(item)] if isinstance(item, Encoded) else RowScore(skipped=item)
            for item in encoded
        ]

    def reverse_kl(
        self,
        prompts: Iterable[Any],
        *,
        module: str = "leader",
        reference: str = "base",
        max_new_tokens: int | None = None,
        seed: int = 0,
    ) -> float:
        """KL(module || reference), nats per answer: of all predictions along one sampled answer of
        the module to each prompt.

        Args:
            prompts, module, max_new_tokens, seed: as of `generate`.
            reference: as `module`.

        Raises ConfigError as `generate`.
        """
        view = self._view()
        if not (asked := checked_prompts(view, prompts, 1, 1.0, 1.0, seed)):
            raise ConfigError("prompts: there is none; give at least one")
        answers = AnswerKl(view.policies, view.encoder, view.room(max_new_tokens))
        return answers.measure(view.policy(module), view.policy(reference), asked, seed=seed)

    def evaluate(
        self,
        data: Any = None,
        *,
        module: str = "leader",
        max_pairs: int | None = None,
        num_prompts: int | None = None,
        max_new_tokens: int | None = None,
        num_generations: int | None = None,
        judge: Any = None,
        seed: int | None = None,
    ) -> EvalResult:
        """Accuracy, loss, margin (nats), log-probs (nats) and, of sampled answers, KL and length.

        Args:
            data: held-out rows, a datasets.Dataset, or paths; None takes the recipe's data.eval.
            module: as of `generate`.
            max_pairs: use the first so many; None uses all.
            num_prompts: prompts that are answered to estimate reverse KL and length; 0 for none.
            max_new_tokens: longest of these answers, tokens.
            num_generations: answers to each of these prompts.
            judge: scores these answers: a function, an object, or a mapping as in a recipe. None
                takes the recipe's, but of a folder that is not trusted no Python file and no
                server.
            seed: of the sampled answers.

        What is None is taken from the recipe. Raises ConfigError or DataError.
        """
        result, _ = self.measure(
            data,
            module=module,
            max_pairs=max_pairs,
            num_prompts=num_prompts,
            max_new_tokens=max_new_tokens,
            num_generations=num_generations,
            judge=judge,
            seed=seed,
        )
        return result

    def measure(
        self,
        data: Any = None,
        *,
        module: str = "leader",
        judge: Any = None,
        seed: int | None = None,
        progress: Progress = unwatched,
        **settings: int | None,
    ) -> tuple[EvalResult, dict[str, int]]:
        """As `evaluate`, with the counts of rows that were read and skipped.

        `progress` is called with how many of how many examples and prompts are done.
        """
        view = self._view()
        policy = view.policy(module)
        recipe = eval_recipe(view.recipe, seed, settings)
        if judge is None:
            warn_of_unasked_judge(recipe)
        if data is None:
            data = recipe.all_eval_sources or None
        sources = None if data is None else sources_of(data)
        evaluator, counts = held_out(
            recipe, view.encoder, view.objective, sources=sources, judge=judge_of(judge)
        )
        result = evaluator.evaluate(
            view.policies,
            policy,
            reference=view.reference,
            state=view.running.get(policy),
            progress=progress,
        )
        return result, counts

    def rendered_pairs(
        self, data: Any = None, *, max_pairs: int | None = None
    ) -> list[RenderedPair]:
        """Held-out pairs as the text that the model reads, for other tools: the pairs that
        `evaluate` measures, in their order, without those of which only parts are scored.

        Arguments as of `evaluate`. Raises ConfigError or DataError, also where there is no pair.
        """
        view = self._view()
        recipe = eval_recipe(view.recipe, None, {"max_pairs": max_pairs})
        if data is None:
            data = recipe.all_eval_sources or None
        sources = None if data is None else sources_of(data)
        examples, _ = held_out_examples(recipe, view.encoder, view.objective, sources=sources)
        texts = (rendered_pair(item, view.tokenizer) for item in examples)
        if not (pairs := [pair for pair in texts if pair is not None]):
            raise DataError("the held-out data holds no pairs; give pairs with --data or data=...")
        return pairs
