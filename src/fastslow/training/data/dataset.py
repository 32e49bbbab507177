"""What a recipe learns from and depends on: its objective's kind of examples, off its sources."""

import math
from pathlib import Path
from typing import Any

from fastslow.config import HOW_TO_TRUST, AnswerConfig, GuestRecipe, ObjectiveConfig, Recipe
from fastslow.errors import ConfigError
from fastslow.judges import judge_fingerprint
from fastslow.objectives import Objective, make_objective, objective_settings
from fastslow.streams import (
    KEPT,
    ExampleStream,
    Followed,
    ReplayStream,
    Source,
    file_fingerprint,
    fingerprints_of,
    folder_fingerprint,
    open_sources,
)
from fastslow.streams.labels import PROMPTS


def objective_of(recipe: Recipe) -> Objective:
    """The recipe's objective with its settings. Raises ConfigError where that would run a Python
    file which only somebody else's folder names."""
    if isinstance(recipe, GuestRecipe) and (file := recipe.withheld.objective):
        raise ConfigError(
            f"objective: {recipe.objective.name} is defined in the Python file {file}, which the "
            f"folder names and which is not run unasked; {HOW_TO_TRUST}"
        )
    return make_objective(recipe.objective.name, **recipe.objective.settings)


def eval_objective(objective: Objective) -> Objective:
    """What held-out data are measured with: the objective, or DPO in place of one that only means
    something for new completions, or learns from win rates, which those alone have."""
    of_answers = objective.on_policy or "chosen_win_rate" in objective.needs
    return make_objective("dpo") if of_answers else objective


def temperature_of(recipe: Recipe, objective: Objective) -> float:
    """The temperature whose log-probs are learned from: that of the completions where the objective
    weighs them by how likely they were, 1 in every other case."""
    if recipe.online is None or not objective.on_policy:
        return 1.0
    return recipe.online.temperature


def written_out(recipe: Recipe) -> Recipe:
    """The recipe with the objective's defaults in it, as the run folder keeps them."""
    name = recipe.objective.name
    settings = objective_settings(name, **recipe.objective.settings)
    section = ObjectiveConfig(name=name, **settings)
    return recipe.model_copy(update={"objective": section})


def train_stream(
    recipe: Recipe, objective: Objective, *, epochs: int | None = None, follow: bool = False
) -> ExampleStream:
    """The training pairs of a recipe, from the beginning; `epochs` replaces the recipe's.

    With `follow` more are waited for at the end.
    """
    if not recipe.data.train_sources:
        raise ConfigError("data.train: is missing; give files, a folder, a hub id or -")
    return _stream(
        recipe,
        _followed(recipe) if follow else train_sources(recipe),
        kind=objective.takes,
        epochs=epochs or recipe.train.epochs,
        skip=recipe.data.skip,
        poll=True,
    )


def train_sources(recipe: Recipe) -> list[Source]:
    """What data.train stands for at present; standard input is kept in the run folder."""
    return open_sources(recipe.data.train_sources, follow=recipe.data.follow, kept=_kept(recipe))


def _followed(recipe: Recipe) -> Followed:
    return Followed(recipe.data.train_sources, kept=_kept(recipe))


def _kept(recipe: Recipe) -> Path:
    return Path(recipe.output_dir) / KEPT


def rereadable(sources: list[str]) -> bool:
    """Whether some sources can be read more than once."""
    return all(source.rereadable for source in open_sources(sources))


def may_be_empty(recipe: Recipe) -> bool:
    """Whether data.train is waited for and holds no row yet."""
    sources = train_sources(recipe) if recipe.data.follow else []
    return recipe.data.follow and not any(True for one in sources for _ in one.rows())


def is_live(recipe: Recipe) -> bool:
    """Whether rows of data.train may come while it is learned from."""
    return recipe.data.follow or any(one.live for one in open_sources(recipe.data.train_sources))


def prompt_stream(
    recipe: Recipe, answers: AnswerConfig, *, epochs: int | None = None
) -> ExampleStream:
    """The prompts that are answered, from the beginning; `epochs` replaces the recipe's."""
    sources = answers.prompt_sources or recipe.data.train_sources
    if not sources:
        raise ConfigError("prompts: are missing; give rows with prompts, or data.train")
    return _stream(
        recipe, open_sources(sources), kind=PROMPTS, epochs=epochs or recipe.train.epochs
    )


def stored_sources(recipe: Recipe) -> list[str]:
    """The sources of data.train as far as they are learned from, not for their prompts alone."""
    answers = recipe.online or recipe.rounds
    return recipe.data.train_sources if answers is None or answers.offline_fraction else []


def stored_per_batch(recipe: Recipe) -> int:
    """Stored examples in each batch of a run that learns from fresh answers."""
    assert recipe.online is not None
    share, size = recipe.online.offline_fraction, recipe.train.batch_size
    return min(size - 1, max(1, round(share * size))) if share else 0


def examples_per_prompt(recipe: Recipe, objective: Objective) -> int:
    """Most examples that a prompt's completions become in a run that learns from fresh answers."""
    assert recipe.online is not None
    if objective.takes == "ratings":
        return 2  # The best and the worst.
    if objective.takes == "pairs" and recipe.online.pick == "all":
        return math.comb(recipe.online.num_generations, 2)
    return 1


def replayed_stream(recipe: Recipe, objective: Objective) -> ExampleStream | ReplayStream:
    """The training pairs, with earlier ones among them where the recipe replays some."""
    stream = train_stream(recipe, objective, follow=recipe.data.follow)
    if recipe.replay is None:
        return stream
    earlier = list(
        ExampleStream(
            open_sources(recipe.replay.memory), kind=objective.takes, columns=recipe.data.columns
        )
    )
    return ReplayStream(stream, earlier, share=recipe.replay.share, seed=recipe.seed)


def eval_stream(
    recipe: Recipe, objective: Objective, sources: list[Source] | None = None
) -> ExampleStream:
    """The held-out pairs of a recipe, or of other sources, in their order, for `eval_objective`."""
    given = open_sources(recipe.data.eval_sources) if sources is None else sources
    return _stream(recipe, given, kind=objective.takes, shuffle=False)


def _stream(
    recipe: Recipe,
    sources: Followed | list[Source],
    *,
    kind: str,
    epochs: int = 1,
    shuffle: bool = True,
    skip: int = 0,
    poll: bool = False,
) -> ExampleStream:
    return ExampleStream(
        sources,
        kind=kind,
        domain=recipe.data.domain,
        columns=recipe.data.columns,
        shuffle=recipe.data.shuffle if shuffle else 0,
        seed=recipe.seed,
        max_bad_fraction=recipe.data.max_bad_fraction,
        epochs=epochs,
        skip=skip,
        poll=poll,
    )


def input_fingerprints(recipe: Recipe, sources: list[Source] | None = None) -> dict[str, Any]:
    """Fingerprints of a run's inputs besides its recipe, as JSON: those of data.train by source; a
    hub id is its own. Raises DataError or OSError if some are missing.

    `sources` are those of data.train as they were opened; None opens them.
    """
    prints: dict[str, Any] = {"model": folder_fingerprint(recipe.model)}
    if recipe.lora.start_from is not None:
        prints["adapter in lora.start_from"] = folder_fingerprint(recipe.lora.start_from)
    if (file := recipe.objective.settings.get("file")) is not None:
        prints["objective"] = file_fingerprint(Path(file))
    prints["data"] = fingerprints_of(train_sources(recipe) if sources is None else sources)
    answers = recipe.online or recipe.rounds
    if answers is not None and answers.prompt_sources:
        prints["prompts"] = _fingerprints(answers.prompt_sources)
    judges = {"judge": recipe.judge, "judge in eval": recipe.eval.judge}
    prints |= {key: judge_fingerprint(judge) for key, judge in judges.items() if judge is not None}
    if recipe.replay is not None:
        prints["memory"] = _fingerprints(recipe.replay.memory)
    if recipe.anchor is not None and recipe.anchor.fisher is not None:
        prints["fisher information"] = file_fingerprint(Path(recipe.anchor.fisher))
    domains = recipe.continual.domains if recipe.continual else []
    held_out = sum((domain.eval_sources for domain in domains), recipe.data.eval_sources)
    if held_out:
        prints["held-out data"] = _fingerprints(held_out)
    return prints


def _fingerprints(sources: list[str]) -> list[Any]:
    return [source.fingerprint() for source in open_sources(sources)]
