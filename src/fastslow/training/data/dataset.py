"""The data of a recipe: examples of the kind its objective takes; fingerprints of all inputs."""

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
    """The recipe's objective with its settings. Raises ConfigError if that would run a Python file
    that only somebody else's folder names."""
    if isinstance(recipe, GuestRecipe) and (file := recipe.withheld.objective):
        raise ConfigError(
            f"objective: {recipe.objective.name} is defined in the Python file {file}, which the "
            f"folder names and which is not run unasked; {HOW_TO_TRUST}"
        )
    return make_objective(recipe.objective.name, **recipe.objective.settings)


def eval_objective(objective: Objective) -> Objective:
    """The objective for held-out data: the same, or DPO if it only makes sense for new completions
    or learns from win rates, which only new completions have."""
    needs_completions = objective.on_policy or "chosen_win_rate" in objective.needs
    return make_objective("dpo") if needs_completions else objective


def temperature_of(recipe: Recipe, objective: Objective) -> float:
    """The temperature of the log-probs to learn from: that of the completions if the objective
    weights them by their likelihood, otherwise 1."""
    if recipe.online is None or not objective.on_policy:
        return 1.0
    return recipe.online.temperature


def written_out(recipe: Recipe) -> Recipe:
    """The recipe with the objective's defaults filled in, as the run folder keeps it."""
    name = recipe.objective.name
    settings = objective_settings(name, **recipe.objective.settings)
    section = ObjectiveConfig(name=name, **settings)
    return recipe.model_copy(update={"objective": section})


def train_stream(
    recipe: Recipe, objective: Objective, *, epochs: int | None = None, follow: bool = False
) -> ExampleStream:
    """The training pairs of a recipe, from the beginning; `epochs` replaces the recipe's.

    With `follow`, the stream waits for more at the end.
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
    """The sources that data.train names at present; standard input is kept in the run folder."""
    return open_sources(recipe.data.train_sources, follow=recipe.data.follow, kept=_kept(recipe))


def _followed(recipe: Recipe) -> Followed:
    return Followed(recipe.data.train_sources, kept=_kept(recipe))


def _kept(recipe: Recipe) -> Path:
    return Path(recipe.output_dir) / KEPT


def rereadable(sources: list[str]) -> bool:
    """True if all the sources can be read more than once."""
    return all(source.rereadable for source in open_sources(sources))


def may_be_empty(recipe: Recipe) -> bool:
    """True if data.train is followed and has no row yet."""
    sources = train_sources(recipe) if recipe.data.follow else []
    return recipe.data.follow and not any(True for source in sources for _ in source.rows())


def is_live(recipe: Recipe) -> bool:
    """True if rows of data.train may arrive during training."""
    return recipe.data.follow or any(
        source.live for source in open_sources(recipe.data.train_sources)
    )


def prompt_stream(
    recipe: Recipe, answers: AnswerConfig, *, epochs: int | None = None
) -> ExampleStream:
    """The prompts to answer, from the beginning; `epochs` replaces the recipe's."""
    sources = answers.prompt_sources or recipe.data.train_sources
    if not sources:
        raise ConfigError("prompts: are missing; give rows with prompts, or data.train")
    return _stream(
        recipe, open_sources(sources), kind=PROMPTS, epochs=epochs or recipe.train.epochs
    )


def stored_sources(recipe: Recipe) -> list[str]:
    """The sources of data.train; none if only their prompts are used."""
    answers = recipe.online or recipe.rounds
    return recipe.data.train_sources if answers is None or answers.offline_fraction else []


def stored_per_batch(recipe: Recipe) -> int:
    """Stored examples in each batch of an online run."""
    assert recipe.online is not None
    share, size = recipe.online.offline_fraction, recipe.train.batch_size
    return min(size - 1, max(1, round(share * size))) if share else 0


def examples_per_prompt(recipe: Recipe, objective: Objective) -> int:
    """The most examples that a prompt's completions can become in an online run."""
    assert recipe.online is not None
    if objective.takes == "ratings":
        return 2  # The best and the worst.
    if objective.takes == "pairs" and recipe.online.pick == "all":
        return math.comb(recipe.online.num_generations, 2)
    return 1


def replayed_stream(recipe: Recipe, objective: Objective) -> ExampleStream | ReplayStream:
    """The training pairs, mixed with earlier ones if the recipe replays some."""
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
    """The held-out pairs of a recipe, or of other sources, unshuffled, for `eval_objective`."""
    eval_sources = open_sources(recipe.data.eval_sources) if sources is None else sources
    return _stream(recipe, eval_sources, kind=objective.takes, shuffle=False)


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
    hub id is its own fingerprint. Raises DataError or OSError if inputs are missing.

    `sources` are the opened sources of data.train; None opens them.
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
