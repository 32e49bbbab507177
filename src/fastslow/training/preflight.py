"""Checks a recipe part by part before training, as far as possible without a model's weights.

A recipe is one run, or several: stages, or domains. All are checked before the first is trained, so
that a fault in the last one does not show up after hours of training the others.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

from fastslow.adapters import load_context_length
from fastslow.config import Recipe, faults_of_parts, part_recipes
from fastslow.errors import ConfigError, DataError, FastslowError
from fastslow.judges import make_judge
from fastslow.objectives import ActorCritic, Objective
from fastslow.records import Example
from fastslow.streams import ExampleStream, ReplayStream, example_warnings, source_warnings
from fastslow.testing import failure, gives_an_output, one_loss_and_reward_per_row
from fastslow.training.data.batch_reader import (
    GIVE_COLUMNS,
    MAX_SKIPPED,
    SHOWN,
    too_many_skipped,
)
from fastslow.training.data.dataset import (
    eval_objective,
    eval_stream,
    examples_per_prompt,
    may_be_empty,
    objective_of,
    prompt_stream,
    replayed_stream,
    rereadable,
    stored_per_batch,
    stored_sources,
    train_stream,
)
from fastslow.training.data.overlap import held_out_warnings
from fastslow.training.data.requirements import EXTRAS, OF_PAIRS, is_idle_tie, missing_fields
from fastslow.training.distributed.fsdp import sharding_faults
from fastslow.training.distributed.processes import ProcessGroup
from fastslow.training.policies.model_check import check_model

COMPARING = ("llm", "ensemble")
"""Kinds of judges that cannot judge a single answer."""
LOOKED_AT = 256
"""Examples of each stream that are checked before anything is trained."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The stream of one run, its number of steps, and warnings about its data."""

    stream: ExampleStream | ReplayStream
    total_steps: int | None
    """Optimiser steps planned; None for a stream without a known end."""
    first: list[Example]
    """The first stored examples of the training and held-out data."""
    of_sources: list[str]
    """Warnings about the sources themselves."""

    @property
    def warnings(self) -> list[str]:
        """Warnings about the data."""
        return [*self.of_sources, *example_warnings(self.first)]


def plan(recipe: Recipe, objective: Objective, processes: ProcessGroup) -> Plan:
    """The plan of one run. Raises ConfigError or DataError if it cannot be trained."""
    faults = list(_faults(recipe, objective, processes))
    if faults:
        raise ConfigError(*faults)
    of_sources = _check_sources(recipe, processes)
    first = _first_examples(recipe, objective)
    if recipe.online is not None:
        prompts = prompt_stream(recipe, recipe.online)
        fresh = recipe.train.batch_size - stored_per_batch(recipe)
        each, passes = examples_per_prompt(recipe, objective), recipe.online.num_iterations
        steps = _total_steps(recipe, prompts, fresh, each=each, passes=passes)
        return Plan(prompts, steps, first, of_sources)
    stream = replayed_stream(recipe, objective)
    return Plan(stream, _total_steps(recipe, stream, recipe.train.batch_size), first, of_sources)


def parts(recipe: Recipe) -> dict[str, Recipe]:
    """The runs of a recipe by label, if they are known before the first.

    The answers of rounds and the points where drift splits a stream are not known, so such recipes
    are checked as a whole. Raises ConfigError with the faults of all parts.
    """
    recipes = part_recipes(recipe)
    known = recipe.stages or (recipe.continual is not None and recipe.continual.domains)
    return recipes if known else {"": recipe}


def check_parts(recipe: Recipe, processes: ProcessGroup, *, trained: int = 0) -> list[str]:
    """Check all parts of a recipe but the first `trained` ones; returns warnings about the data.

    Raises ConfigError with everything that would stop a part from training, or DataError if only
    the data are at fault.
    """
    warnings = recipe_warnings(recipe)
    faults: dict[str, list[str]] = {}
    kinds: set[type[FastslowError]] = set()
    summed = recipe.continual is not None and recipe.continual.merges
    checked_models: list[Any] = []
    remaining = dict(list(parts(recipe).items())[trained:])
    for label, part in remaining.items():
        try:
            objective = objective_of(part)
            if part.rounds is None:
                warnings += plan(part, objective, processes).warnings
            else:
                warnings += _check_rounds(part, objective, processes)
            for judge in (part.judge, part.eval.judge):
                if judge is not None:
                    make_judge(judge, device=recipe.train.device)
            key = part.model, part.lora, part.task, part.chase, isinstance(objective, ActorCritic)
            if key not in checked_models:
                checked_models.append(key)
                warnings += check_model(part, critic=key[-1], summed=summed)
        except (ConfigError, DataError) as error:
            kinds.add(type(error))
            problems = error.problems if isinstance(error, ConfigError) else [str(error)]
            faults[label] = list(problems)
    lines = faults_of_parts(faults, len(remaining))
    if kinds == {DataError}:
        raise DataError("\n".join(lines))
    if lines:
        raise ConfigError(*lines)
    return warnings


def recipe_warnings(recipe: Recipe) -> list[str]:
    """Warnings about settings of a recipe as a whole that are unlikely to be intended."""
    continual = recipe.continual
    if continual is None or continual.start != "continue":
        return []
    several = len({domain.name for domain in continual.domains}) != 1
    if not several or not continual.sums:
        return []
    return [
        "continual.start: continue trains each adapter from the one before, so it contains that "
        f"one; with continual.weights: {continual.weights} the sum counts it twice. Set "
        "continual.weights to null (the last adapter alone) or routed, or start: fresh"
    ]


def part_warnings(recipe: Recipe, processes: ProcessGroup, *, trained: int = 0) -> list[str]:
    """Warnings if one part of a recipe learns from what another holds out, in the main process
    only; warnings about a single part come with its plan."""
    remaining = dict(list(parts(recipe).items())[trained:])
    return held_out_warnings(remaining) if processes.rank == 0 and len(remaining) > 1 else []


def _check_sources(recipe: Recipe, processes: ProcessGroup) -> list[str]:
    """Warnings about files that are not read, and held-out examples that are learned from."""
    sources = dict.fromkeys([*recipe.data.train_sources, *recipe.data.eval_sources])
    overlap = held_out_warnings({"": recipe}) if processes.rank == 0 else []
    return [*source_warnings(list(sources), follow=recipe.data.follow), *overlap]


def _first_examples(recipe: Recipe, objective: Objective) -> list[Example]:
    """The first examples of all data except standard input, to find problems early.

    Raises DataError if more than a tenth of them lack what the objective needs, or if no example is
    usable.
    """
    first: list[Example] = []
    for key, sources, stream, learned in (
        ("data.train", stored_sources(recipe), train_stream, objective),
        ("data.eval", recipe.data.eval_sources, eval_stream, eval_objective(objective)),
    ):
        waited_for = key == "data.train" and may_be_empty(recipe)
        if sources and not waited_for and rereadable(sources):
            examples = iter(stream(recipe, learned))
            head = list(islice(examples, LOOKED_AT))
            _check_missing(head, learned)
            if not (recipe.data.follow and key == "data.train"):  # More rows may still arrive.
                _check_any(key, chain(head, examples), learned)
            first += head
    return first


def _check_missing(examples: Sequence[Example], objective: Objective) -> None:
    reasons = ((example, missing_fields(example, objective)) for example in examples)
    skipped = [f"{example.source}: {reason}" for example, reason in reasons if reason]
    if len(skipped) > MAX_SKIPPED * len(examples):
        raise too_many_skipped(len(skipped), len(examples), skipped[:SHOWN], [GIVE_COLUMNS])


def _check_any(key: str, examples: Iterable[Example], objective: Objective) -> None:
    """Raise DataError if no example is usable; reads up to the first that is."""
    ties = 0
    for example in examples:
        if not is_idle_tie(example, objective):
            return
        ties += 1
    if ties:
        raise DataError(
            f"{key}: all {ties} examples are ties, which this objective cannot use; davidson and "
            "rao_kupper can train on ties"
        )
    raise DataError(
        f"{key}: no usable examples; each has weight 0, is no example of this kind, or "
        "is skipped by data.skip"
    )


def _check_rounds(recipe: Recipe, objective: Objective, processes: ProcessGroup) -> list[str]:
    """Check what exists of a run whose pairs are still to be made; raises and warns like `plan`."""
    assert recipe.rounds is not None
    if faults := list(_faults(recipe, objective, processes)):
        raise ConfigError(*faults)
    if next(iter(prompt_stream(recipe, recipe.rounds)), None) is None:
        raise DataError("rounds.prompts: no prompts found")
    of_sources = _check_sources(recipe, processes)
    return [*of_sources, *example_warnings(_first_examples(recipe, objective))]


def _faults(recipe: Recipe, objective: Objective, processes: ProcessGroup) -> Iterator[str]:
    """Settings that do not fit the objective or the model."""
    train, name = recipe.train, recipe.objective.name
    compares = objective.coupled or "mismatched_log_ratio" in objective.needs
    if compares and train.batch_size == 1:
        yield (
            f"train.batch_size: got 1; objective {name} compares the examples of a batch, so "
            "it needs 2 or more"
        )
    size = train.micro_batch_size
    if objective.coupled and size is not None and size < train.batch_size:
        yield (
            f"train.micro_batch_size: got {size}; with objective {name} the loss of an example "
            f"depends on its whole batch, so it must be null or train.batch_size = "
            f"{train.batch_size}"
        )
    if recipe.filter is not None and objective.takes == "ratings":
        yield f"filter: objective {name} takes ratings, which have no chosen response"
    if objective.on_policy and recipe.online is None:
        yield f"objective {name}: is on-policy; set online and judge"
    yield from _online_faults(recipe, objective)
    if recipe.task == "reward" and not _compares_rewards(objective):
        yield (
            f"objective {name}: cannot train a reward model; choose one on pairs or ranked lists "
            "that needs log-ratios only, such as dpo, hinge, davidson or plackett_luce"
        )
    if recipe.moving_reference and not objective.needs_reference:
        yield f"moving_reference: objective {name} has no reference; set it to null"
    if "file" in recipe.objective.settings:
        yield from _custom_faults(name, objective)
    yield from sharding_faults(recipe, processes)
    limit = load_context_length(recipe.model, trust_remote_code=recipe.trust_remote_code)
    if limit is not None and recipe.data.max_length > limit:
        yield (
            f"data.max_length: got {recipe.data.max_length}; the model's context is {limit} tokens"
        )


def _compares_rewards(objective: Objective) -> bool:
    needs_policy = objective.needs_lengths or not objective.needs_reference or objective.on_policy
    available = {*OF_PAIRS, "score", "uniform"}
    return objective.takes in ("pairs", "rankings") and not (
        needs_policy or set(objective.needs) - available
    )


def _online_faults(recipe: Recipe, objective: Objective) -> Iterator[str]:
    """Settings of online runs that do not fit the objective."""
    online, name = recipe.online, recipe.objective.name
    if online is None:
        return
    has_critic = isinstance(objective, ActorCritic)
    if online.num_generations == 1 and not has_critic:
        yield (
            f"online.num_generations: got 1; objective {name} compares completions, so it needs "
            "2 or more"
        )
    if online.num_generations == 1 and recipe.judge is not None and recipe.judge.kind in COMPARING:
        yield (
            f"online.num_generations: got 1; a judge of kind {recipe.judge.kind} compares "
            "completions, so it needs 2 or more"
        )
    if online.num_generations == 1 and recipe.chase is not None and recipe.chase.alpha:
        yield (
            "chase.alpha: needs two completions per prompt, but online.num_generations is 1; set "
            "it to 0, or chase: null"
        )
    if online.critic_rate != 1 and not has_critic:
        yield f"online.critic_rate: objective {name} has no critic; remove it"
    if online.top_p < 1 and objective.on_policy:
        yield (
            f"online.top_p: got {online.top_p}; objective {name} needs sampling log-probs, which "
            "nucleus sampling changes; set it to 1"
        )
    sampled_elsewhere = online.engine is not None and online.overlap and objective.on_policy
    if sampled_elsewhere and online.temperature != 1:
        yield (
            f"online.overlap: objective {name} needs sampling log-probs, which an engine reports "
            f"only at temperature 1; set it to false, or online.temperature = "
            f"{online.temperature:g} to 1"
        )
    if online.offline_fraction and objective.on_policy:
        yield (f"online.offline_fraction: objective {name} is on-policy; remove it")


def _custom_faults(name: str, objective: Objective) -> Iterator[str]:
    """What would make a run with a user's own objective fail or learn nothing."""
    if objective.takes == "tokens":
        yield f"objective {name}: takes tokens, which only ppo and espo can"
        return
    known = EXTRAS[objective.takes]
    unknown = [extra for extra in objective.needs if extra not in known]
    if unknown:
        yield (
            f"objective {name}: needs {', '.join(unknown)}; available for {objective.takes} are "
            f"{', '.join(known)}"
        )
        return
    if not isinstance(getattr(objective, "beta", None), (int, float)):
        yield f"objective {name}: has no beta, which scales the chase term; add one"
    checks = (gives_an_output, one_loss_and_reward_per_row)
    failed = (failure(partial(check, objective)) for check in checks)
    if (first := next((text for text in failed if text is not None), None)) is not None:
        yield f"objective {name}: {first}; run fastslow.testing.check_objective for all problems"


def _total_steps(
    recipe: Recipe,
    stream: ExampleStream | ReplayStream,
    batch_size: int,
    *,
    each: int = 1,
    passes: int = 1,
) -> int | None:
    """Steps of a run; `each` is the number of examples a row becomes."""
    rows = stream.estimate_pairs()
    planned = [] if rows is None else [math.ceil(rows * each / batch_size) * passes]
    if recipe.train.max_steps is not None:
        planned.append(recipe.train.max_steps)
    if planned:
        return min(planned)
    if recipe.train.schedule != "constant":
        raise ConfigError(
            f"train.schedule: {recipe.train.schedule!r} needs a known number of steps, but the "
            "length of the stream is not known; set train.max_steps or train.schedule=constant"
        )
    return None
