"""What a recipe will train, part by part, checked as far as that goes without a model's weights.

A recipe is one run, or several: stages, or domains. All are looked at before the first is trained,
because a fault of the last one is of no use after hours of the others.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from fastslow.adapters import load_context_length
from fastslow.config import Recipe, stage_recipes
from fastslow.errors import ConfigError, DataError, FastslowError
from fastslow.judges import make_judge
from fastslow.objectives import ActorCritic, Objective
from fastslow.records import Example
from fastslow.streams import ExampleStream, ReplayStream, odd_columns
from fastslow.testing import failure, one_loss_and_reward_per_row
from fastslow.training.data.batch_reader import GIVE_COLUMNS, MAX_LEFT_OUT, SHOWN, too_many
from fastslow.training.data.dataset import (
    eval_objective,
    eval_stream,
    objective_of,
    prompt_stream,
    replayed_stream,
    stored_per_batch,
    stored_sources,
    train_stream,
)
from fastslow.training.distributed.fsdp import sharding_faults
from fastslow.training.loop.logps import EXTRAS, OF_PAIRS, lacks

COMPARING = ("llm", "ensemble")
"""Kinds of judges that say nothing of one answer alone."""
LOOKED_AT = 256
"""Examples of each stream that are looked at before anything is trained."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run will go through."""

    stream: ExampleStream | ReplayStream
    total_steps: int | None
    """Optimiser steps planned; None for a stream without a known end."""
    warnings: list[str]
    """What looks odd about the data."""


def plan(recipe: Recipe) -> Plan:
    """The plan of one run. Raises ConfigError or DataError where it cannot be trained."""
    faults = list(_faults(recipe))
    if faults:
        raise ConfigError(*faults)
    warnings = _check_columns(recipe)
    if recipe.online is not None:
        prompts = prompt_stream(recipe, recipe.online)
        fresh = recipe.train.batch_size - stored_per_batch(recipe)
        steps = _total_steps(recipe, prompts, fresh, passes=recipe.online.passes)
        return Plan(prompts, steps, warnings)
    stream = replayed_stream(recipe)
    return Plan(stream, _total_steps(recipe, stream, recipe.train.batch_size), warnings)


def parts(recipe: Recipe) -> dict[str, Recipe]:
    """The runs of a recipe by what tells them apart, as far as they are known before the first."""
    if recipe.stages:
        return {
            f"stage {number}, {stage.name}": part
            for number, (stage, part) in enumerate(
                zip(recipe.stages, stage_recipes(recipe), strict=True), 1
            )
        }
    domains = recipe.continual.domains if recipe.continual else []
    return {
        f"domain {number}, {domain.name}": recipe.model_copy(
            update={
                "continual": None,
                "data": recipe.data.model_copy(
                    update={"train": domain.train, "eval": domain.eval, "domain": domain.name}
                ),
            }
        )
        for number, domain in enumerate(domains, 1)
    } or {"": recipe}


def check_parts(recipe: Recipe, *, trained: int = 0) -> list[str]:
    """Check all parts of a recipe but the first few, which are `trained`; warnings about the data.

    Raises ConfigError with everything for which one of them could not be trained, or DataError
    where it is the data alone.
    """
    warnings: list[str] = []
    faults: list[str] = []
    kinds: set[type[FastslowError]] = set()
    for label, part in list(parts(recipe).items())[trained:]:
        where = f"{label}: " if label else ""
        try:
            warnings += plan(part).warnings if part.rounds is None else _check_rounds(part)
            for judge in (part.judge, part.eval.judge):
                if judge is not None:
                    make_judge(judge)
        except (ConfigError, DataError) as error:
            kinds.add(type(error))
            found = error.problems if isinstance(error, ConfigError) else [str(error)]
            faults += [where + fault for fault in found]
    if kinds == {DataError}:
        raise DataError("\n".join(faults))
    if faults:
        raise ConfigError(*faults)
    return warnings


def _check_columns(recipe: Recipe) -> list[str]:
    """Look at the first examples of all data but standard input, for what no run should find late.

    Returns warnings of columns that are not used, but are named nearly as one that is. Raises
    DataError where more than a tenth of the examples lack what the objective learns from.
    """
    first: list[Example] = []
    for sources, stream, objective in (
        (stored_sources(recipe), train_stream, objective_of(recipe)),
        (recipe.data.eval_sources, eval_stream, eval_objective(recipe)),
    ):
        if sources and "-" not in sources:
            own = list(islice(stream(recipe), LOOKED_AT))
            _check_lacking(own, objective)
            first += own
    return odd_columns(first)


def _check_lacking(examples: Sequence[Example], objective: Objective) -> None:
    lacking = [f"{e.source}: {reason}" for e in examples if (reason := lacks(e, objective))]
    if len(lacking) > MAX_LEFT_OUT * len(examples):
        raise too_many(len(lacking), len(examples), lacking[:SHOWN], [GIVE_COLUMNS])


def _check_rounds(recipe: Recipe) -> list[str]:
    """Check what there is of a run whose pairs are still to be made; raises and warns as `plan`."""
    assert recipe.rounds is not None
    if faults := list(_faults(recipe)):
        raise ConfigError(*faults)
    if next(iter(prompt_stream(recipe, recipe.rounds)), None) is None:
        raise DataError("rounds.prompts: no prompt in them")
    return _check_columns(recipe)


def _faults(recipe: Recipe) -> Iterator[str]:
    """Settings that do not go with the objective or the model."""
    train, name = recipe.train, recipe.objective.name
    objective = objective_of(recipe)
    if objective.coupled and train.batch_size == 1:
        yield (
            f"train.batch_size: got 1; objective {name} compares the examples of a batch with each "
            "other, so it needs more"
        )
    size = train.micro_batch_size
    if objective.coupled and size is not None and size < train.batch_size:
        yield (
            f"train.micro_batch_size: got {size}; with objective {name} the loss of an example "
            f"depends on its whole batch, so it must be null or train.batch_size = "
            f"{train.batch_size}"
        )
    if recipe.filter is not None and objective.takes == "ratings":
        yield f"filter: objective {name} learns from ratings, of which none is chosen"
    if objective.on_policy and recipe.online is None:
        yield f"objective {name}: is for the policy's own answers; give online and judge"
    yield from _online_faults(recipe, objective)
    if recipe.trains == "reward" and not _compares_rewards(objective):
        yield (
            f"objective {name}: cannot be had of rewards; take one that learns from pairs or "
            "ranked lists by their log-ratios alone, such as dpo, hinge, davidson or plackett_luce"
        )
    if recipe.moving_reference and not objective.needs_reference:
        yield f"moving_reference: objective {name} compares with no reference; set it to null"
    if "file" in recipe.objective.settings:
        yield from _own_faults(name, objective)
    yield from sharding_faults(recipe)
    limit = load_context_length(recipe.model, trust_remote_code=recipe.trust_remote_code)
    if limit is not None and recipe.data.max_length > limit:
        yield (
            f"data.max_length: got {recipe.data.max_length}; the model's context is {limit} tokens"
        )


def _compares_rewards(objective: Objective) -> bool:
    of_policies = objective.needs_lengths or not objective.needs_reference or objective.on_policy
    known = {*OF_PAIRS, "score", "uniform"}
    return objective.takes in ("pairs", "rankings") and not (
        of_policies or set(objective.needs) - known
    )


def _online_faults(recipe: Recipe, objective: Objective) -> Iterator[str]:
    """Settings of fresh answers that do not go with the objective."""
    online, name = recipe.online, recipe.objective.name
    if online is None:
        return
    has_critic = isinstance(objective, ActorCritic)
    if online.answers == 1 and not has_critic:
        yield f"online.answers: got 1; objective {name} compares answers, so it needs two or more"
    if online.answers == 1 and recipe.judge is not None and recipe.judge.kind in COMPARING:
        yield (
            f"online.answers: got 1; a judge of kind {recipe.judge.kind} compares answers, so it "
            "needs two or more"
        )
    if online.answers == 1 and recipe.chase is not None and recipe.chase.alpha:
        yield (
            "chase.alpha: is a push between answers, of which online.answers: 1 gives no two; set "
            "it to 0, or chase: null"
        )
    if online.critic_rate != 1 and not has_critic:
        yield f"online.critic_rate: objective {name} has no critic; remove it"
    if online.top_p < 1 and objective.on_policy:
        yield (
            f"online.top_p: got {online.top_p}; objective {name} weighs answers by how likely they "
            "were, which the nucleus changes; set it to 1"
        )
    if online.engine is not None and online.overlap and objective.on_policy:
        yield (
            f"online.overlap: objective {name} weighs answers by how likely they were, which "
            "nobody knows any more when an engine has given them; set it to false"
        )
    if online.stored and objective.on_policy:
        yield f"online.stored: objective {name} is for the policy's own answers; remove it"


def _own_faults(name: str, objective: Objective) -> Iterator[str]:
    """What would make a run with a user's own objective fail or learn nothing."""
    if objective.takes == "tokens":
        yield f"objective {name}: takes tokens, which is for ppo and espo"
        return
    known = EXTRAS[objective.takes]
    unknown = [extra for extra in objective.needs if extra not in known]
    if unknown:
        yield (
            f"objective {name}: needs {', '.join(unknown)}; what is known of {objective.takes} is "
            f"{', '.join(known)}"
        )
        return
    if not isinstance(getattr(objective, "beta", None), (int, float)):
        yield f"objective {name}: has no beta, which the chase is scaled by; give it one"
    if (said := failure(partial(one_loss_and_reward_per_row, objective))) is not None:
        yield (
            f"objective {name}: {said}; fastslow.testing.check_objective says all that is wrong "
            "with it"
        )


def _total_steps(
    recipe: Recipe, stream: ExampleStream | ReplayStream, batch_size: int, *, passes: int = 1
) -> int | None:
    pairs = stream.estimate_pairs()
    planned = [] if pairs is None else [math.ceil(pairs / batch_size) * passes]
    if recipe.train.max_steps is not None:
        planned.append(recipe.train.max_steps)
    if planned:
        return min(planned)
    if recipe.train.schedule != "constant":
        raise ConfigError(
            f"train.schedule: {recipe.train.schedule!r} needs an end, and the stream has none that "
            "is known; set train.max_steps or train.schedule=constant"
        )
    return None
