"""Evaluation on held-out pairs and on fresh samples, with the training's scoring code."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from fastslow.adapters import BASE
from fastslow.config import EvalConfig, Recipe
from fastslow.errors import ConfigError
from fastslow.evaluation import MetricSums, wilson_interval
from fastslow.judges import Judge, JudgeRequest, make_judge
from fastslow.objectives import Objective
from fastslow.records import Example, plain_text, prompt_key
from fastslow.sampling import Completion
from fastslow.scoring import Encoded, Encoder
from fastslow.streams import Source
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.dataset import eval_objective, eval_stream
from fastslow.training.loop.logps import ReferenceScoredBatch, logps_of, score_reference
from fastslow.training.loop.losses import add_measured, objective_alone
from fastslow.training.on_policy.judging import judge_in_main
from fastslow.training.policies.policies import (
    PROMPTS_AT_ONCE,
    TOKENS_AT_ONCE,
    Policies,
    answered,
    in_passes,
)
from fastslow.training.state.event_log import Progress

SHOWN = 6
"""Prompts whose answers are kept as samples."""


@dataclass(frozen=True, slots=True)
class EvalResult:
    """Held-out metrics of a policy. Log-probs in nats per response, lengths in tokens."""

    pairs: int
    accuracy: float
    """Share of pairs with Delta > 0, ties counting half."""
    accuracy_low: float
    """Lower end of its Wilson 95 % interval over the pairs."""
    accuracy_high: float
    loss: float
    """Mean of the objective."""
    margin: float
    """Mean of Delta = m - m_ref."""
    chosen_logp: float | None = None
    """Of preferred responses, or of liked ones; None where there are none."""
    rejected_logp: float | None = None
    chosen_log_ratio: float | None = None
    """Mean of log pi - log pi_ref of the chosen responses: how far their likelihood moved."""
    rejected_log_ratio: float | None = None
    chosen_length: float | None = None
    """Mean tokens of the chosen responses."""
    reverse_kl: float | None = None
    """Mean of log pi - log pi_ref over answers sampled from the policy; None without samples."""
    mean_length: float | None = None
    """Mean tokens of the sampled answers."""
    truncated: float | None = None
    """Share of the sampled answers truncated by the length limit."""
    reward: float | None = None
    """Mean score of the sampled answers by the judge; None without one."""
    win_rate: float | None = None
    """Share of them that the judge scores above the base's answer, equal ones counting half."""
    win_rate_low: float | None = None
    """Lower end of its Wilson 95 % interval over the prompts."""
    win_rate_high: float | None = None


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt to be answered."""

    example: Example
    ids: tuple[int, ...]


class Evaluator:
    """Held-out pairs and prompts, with cached scores of the reference and answers of the base.

    Args:
        examples: encoded.
        encoder: for the prompts that are answered.
        objective: what pairs are measured with, see `eval_objective`.
        sampling: how many distinct prompts are answered, how often and at what length.
        seed: of the sampled answers.
        judge: scores the answers and compares them with the base's.
    """

    def __init__(
        self,
        examples: Sequence[Encoded],
        encoder: Encoder,
        objective: Objective,
        *,
        sampling: EvalConfig,
        seed: int,
        judge: Judge | None = None,
    ) -> None:
        self.examples = examples
        self._objective = objective
        self._tokenizer = encoder.tokenizer
        self._end_ids = sorted(encoder.end_ids)
        self._sampling = sampling
        self._seed = seed
        self._judge = judge
        self._scored: WeakKeyDictionary[Any, dict[str, list[ReferenceScoredBatch]]] = (
            WeakKeyDictionary()
        )
        self._base_answers: dict[int, list[list[Completion]]] = {}
        distinct: dict[Hashable, Example] = {}
        for item in examples:
            distinct.setdefault(prompt_key(item.example), item.example)
        prompts = [
            _Prompt(
                example,
                encoder.prompt_ids_of(example, room=sampling.max_new_tokens),
            )
            for example in islice(distinct.values(), sampling.num_prompts)
        ]
        self._shown = prompts[:SHOWN]
        self._prompts = sorted(prompts, key=lambda prompt: len(prompt.ids))

    @property
    def num_answers(self) -> int:
        """Answers that are sampled in each evaluation."""
        return len(self._prompts) * self._sampling.num_generations

    def evaluate(
        self,
        policies: Policies,
        name: str,
        *,
        reference: str,
        progress: Progress,
        state: Mapping[str, float] | None = None,
    ) -> EvalResult:
        """The named policy against the reference; `state` are its running statistics."""
        objective, processes, totals = self._objective, policies.processes, MetricSums()
        groups = length_groups(self.examples)
        own = processes.pad_passes(
            processes.shard(groups), processes.largest_share(len(groups)), groups[0]
        )
        scored = self._scored_under(policies, reference)
        total = len(self.examples) + len(self._prompts)
        for index, (group, is_real) in enumerate(own):
            if index == len(scored):
                scored.append(score_reference(policies, objective, group, reference=reference))
            measure = partial(policies.measure, name)
            logps = logps_of(scored[index], objective, measure, state=state)
            if is_real:
                add_measured(totals, objective_alone(logps, objective))
                lengths = logps.chosen_length
                tokens = {"chosen_length": float(lengths.sum())}
                totals.add(tokens, count=0, counts={"chosen_length": len(lengths)})
            progress(totals.count, total)
        totals = processes.merged(totals)
        sampled = self._sample(
            policies, name, reference, lambda done: progress(totals.count + done, total)
        )
        low, high = wilson_interval(totals.sums["accuracy"], totals.count)
        interval = {"accuracy_low": low, "accuracy_high": high}
        measured: dict[str, Any] = {**totals.means(), **interval, **sampled}
        return EvalResult(pairs=totals.count, **measured)

    def _scored_under(self, policies: Policies, reference: str) -> list[ReferenceScoredBatch]:
        """The groups as far as they are scored under a reference."""
        # The base is the same among all policies; other names mean something among their own.
        scored = self._scored.setdefault(self if reference == BASE else policies, {})
        return scored.setdefault(reference, [])

    def _sample(
        self, policies: Policies, name: str, reference: str, progress: Callable[[int], None]
    ) -> dict[str, float | None]:
        if not self._prompts:
            return {}
        totals = MetricSums()
        for first in range(0, len(self._prompts), PROMPTS_AT_ONCE):
            prompts = self._prompts[first : first + PROMPTS_AT_ONCE]
            answers = self._answers(policies, name, prompts, first)
            sampled = [sample for samples in answers for sample in samples]
            reverse_kl = 0.0
            for trees in in_passes(answered([prompt.ids for prompt in prompts], answers)):
                batch = policies.batch(trees)
                log_ratio = policies.score(name, batch) - policies.score(reference, batch)
                reverse_kl += log_ratio.cpu().double().sum().item()
            sums = {
                "reverse_kl": reverse_kl,
                "mean_length": float(sum(len(sample.tokens) for sample in sampled)),
                "truncated": float(sum(sample.truncated for sample in sampled)),
            }
            if self._judge is not None:
                sums |= self._compare(self._judge, policies, prompts, answers, first)
            totals.add(sums, count=len(sampled))
            progress(min(first + PROMPTS_AT_ONCE, len(self._prompts)))
        means: dict[str, float | None] = dict(totals.means())
        if self._judge is not None:
            # Answers to one prompt are no independent draws: a prompt's mean is one.
            wins = totals.sums["win_rate"] / self._sampling.num_generations
            low, high = wilson_interval(wins, len(self._prompts))
            means |= {"win_rate_low": low, "win_rate_high": high}
        return means

    def _compare(
        self,
        judge: Judge,
        policies: Policies,
        prompts: Sequence[_Prompt],
        answers: Sequence[Sequence[Completion]],
        first: int,
    ) -> dict[str, float]:
        """Sums of the answers' scores and of their wins over the base's, a tie half a win. Of every
        second two the base's stands first, so that a liking for a place cancels out."""
        if first not in self._base_answers:
            self._base_answers[first] = self._answers(policies, BASE, prompts, first)
        both = [
            (prompt.example.prompt, [self._text(mine), self._text(its)])
            for prompt, own, base in zip(prompts, answers, self._base_answers[first], strict=True)
            for mine, its in zip(own, base, strict=True)
        ]
        ways = [1 if place % 2 == 0 else -1 for place in range(len(both))]
        asked = [
            JudgeRequest(prompt, tuple(texts[::way]))
            for way, (prompt, texts) in zip(ways, both, strict=True)
        ]
        judgements = judge_in_main(judge, asked, policies.processes)
        pairs = [one.scores[::way] for way, one in zip(ways, judgements, strict=True)]
        wins = sum((mine > its) + 0.5 * (mine == its) for mine, its in pairs)
        return {"reward": sum(mine for mine, _ in pairs), "win_rate": wins}

    def side_by_side(self, policies: Policies, names: Mapping[str, str]) -> list[dict[str, Any]]:
        """What policies answer to the first few prompts, as JSON: prompt, answers, rewards.

        `names` maps what a policy is called in the result to its module.
        """
        prompts = self._shown
        if not prompts:
            return []
        answers = {
            label: [samples[0] for samples in self._answers(policies, name, prompts, 0)]
            for label, name in names.items()
        }
        shown = []
        for i, prompt in enumerate(prompts):
            texts = {label: self._text(given[i]) for label, given in answers.items()}
            rewards = None
            if self._judge is not None:
                asked = JudgeRequest(prompt.example.prompt, tuple(texts.values()))
                (judgement,) = judge_in_main(self._judge, [asked], policies.processes)
                rewards = dict(zip(texts, judgement.scores, strict=True))
            facts = {"domain": prompt.example.domain, "prompt": plain_text(prompt.example.prompt)}
            shown.append(facts | {"answers": texts, "rewards": rewards})
        return shown

    def _text(self, sample: Completion) -> str:
        text: str = self._tokenizer.decode(sample.tokens, skip_special_tokens=True)
        return text

    def _answers(
        self, policies: Policies, name: str, prompts: Sequence[_Prompt], first: int
    ) -> list[list[Completion]]:
        return policies.generate(
            name,
            [prompt.ids for prompt in prompts],
            end_ids=self._end_ids,
            max_new_tokens=self._sampling.max_new_tokens,
            seed=self._seed + first,
            num_generations=self._sampling.num_generations,
        )


def length_groups(items: Sequence[Encoded]) -> list[list[Encoded]]:
    """The examples by length, in groups of at most TOKENS_AT_ONCE tokens, where all were as long
    as the longest."""
    groups: list[list[Encoded]] = []
    for item in sorted(items, key=lambda item: item.tree.num_tokens):
        if not groups or (len(groups[-1]) + 1) * item.tree.num_tokens > TOKENS_AT_ONCE:
            groups.append([])
        groups[-1].append(item)
    return groups


def held_out(
    recipe: Recipe,
    encoder: Encoder,
    objective: Objective,
    *,
    sources: list[Source] | None = None,
    judge: Judge | None = None,
) -> tuple[Evaluator, dict[str, int]]:
    """The recipe's held-out pairs, encoded, and the counts of what was read and skipped.

    Args:
        objective: what is learned from; `eval_objective` says what is measured with.
        sources: read in place of the recipe's.
        judge: asked in place of the recipe's.
    """
    examples, counts = held_out_examples(recipe, encoder, objective, sources=sources)
    judging = recipe.eval.judge or recipe.judge
    if judge is None and judging is not None:
        judge = make_judge(judging, device=recipe.train.device)
    no_prompts = {"num_prompts": 0} if recipe.task == "reward" else {}
    evaluator = Evaluator(
        examples,
        encoder,
        eval_objective(objective),
        sampling=recipe.eval.model_copy(update=no_prompts),
        seed=recipe.seed,
        judge=judge,
    )
    return evaluator, counts


def held_out_examples(
    recipe: Recipe,
    encoder: Encoder,
    objective: Objective,
    *,
    sources: list[Source] | None = None,
) -> tuple[list[Encoded], dict[str, int]]:
    """The recipe's held-out examples, encoded, at most `eval.max_pairs`, and the counts of what was
    read and skipped. Arguments as of `held_out`."""
    if sources is None and not recipe.data.eval_sources:
        raise ConfigError(
            "data.eval: is missing; give files, a folder or a hub id, to `fastslow eval` as "
            "--data FILE"
        )
    size, measured_with = recipe.eval.max_pairs, eval_objective(objective)
    stream = eval_stream(recipe, measured_with, sources)
    reader = BatchReader(stream, encoder, measured_with, batch_size=size or 1024)
    examples: list[Encoded] = []
    for batch in reader:
        examples += batch
        if size is not None:
            break
    return examples, reader.summary()
