"""What a recipe learns from and depends on: its objective's kind of examples, off its sources."""

from pathlib import Path
from typing import Any

from fastslow.config import AnswerConfig, ObjectiveConfig, Recipe
from fastslow.errors import ConfigError
from fastslow.objectives import Objective, make_objective, objective_settings
from fastslow.streams import ExampleStream, ReplayStream, file_fingerprint, open_sources
from fastslow.streams.labels import PROMPTS


def objective_of(recipe: Recipe) -> Objective:
    """The recipe's objective with its settings."""
    return make_objective(recipe.objective.name, **recipe.objective.settings)


def eval_objective(recipe: Recipe) -> Objective:
    """What held-out data are measured with: the recipe's objective, or DPO in place of one that
    only means something for fresh answers, or learns from win rates, which those alone have."""
    objective = objective_of(recipe)
    of_answers = objective.on_policy or "chosen_win_rate" in objective.needs
    return make_objective("dpo") if of_answers else objective


def temperature_of(recipe: Recipe) -> float:
    """The temperature whose log-probs are learned from: that of the answers where the objective
    weighs them by how likely they were, 1 in every other case."""
    if recipe.online is None or not objective_of(recipe).on_policy:
        return 1.0
    return recipe.online.temperature


def written_out(recipe: Recipe) -> Recipe:
    """The recipe with the objective's defaults in it, as the run folder keeps them."""
    name = recipe.objective.name
    settings = objective_settings(name, **recipe.objective.settings)
    section = ObjectiveConfig(name=name, **settings)
    return recipe.model_copy(update={"objective": section})


def train_stream(recipe: Recipe, *, epochs: int | None = None) -> ExampleStream:
    """The training pairs of a recipe, from the beginning; `epochs` replaces the recipe's."""
    if not recipe.data.train_sources:
        raise ConfigError("data.train: is missing; give files, a folder, a hub id or -")
    return _stream(
        recipe,
        recipe.data.train_sources,
        kind=objective_of(recipe).takes,
        epochs=epochs or recipe.train.epochs,
        skip=recipe.data.skip,
    )


def prompt_stream(
    recipe: Recipe, answers: AnswerConfig, *, epochs: int | None = None
) -> ExampleStream:
    """The prompts that are answered, from the beginning; `epochs` replaces the recipe's."""
    sources = answers.prompt_sources or recipe.data.train_sources
    if not sources:
        raise ConfigError("prompts: are missing; give rows with prompts, or data.train")
    return _stream(recipe, sources, kind=PROMPTS, epochs=epochs or recipe.train.epochs)


def stored_sources(recipe: Recipe) -> list[str]:
    """The sources of data.train as far as they are learned from, not for their prompts alone."""
    answers = recipe.online or recipe.rounds
    return recipe.data.train_sources if answers is None or answers.stored else []


def stored_per_batch(recipe: Recipe) -> int:
    """Stored examples in each batch of a run that learns from fresh answers."""
    assert recipe.online is not None
    share, size = recipe.online.stored, recipe.train.batch_size
    return min(size - 1, max(1, round(share * size))) if share else 0


def replayed_stream(recipe: Recipe) -> ExampleStream | ReplayStream:
    """The training pairs, with those of a memory among them where the recipe replays one."""
    stream = train_stream(recipe)
    if recipe.replay is None:
        return stream
    kind = objective_of(recipe).takes
    memory = list(ExampleStream(open_sources(recipe.replay.memory), kind=kind))
    return ReplayStream(stream, memory, share=recipe.replay.share, seed=recipe.seed)


def eval_stream(recipe: Recipe) -> ExampleStream:
    """The held-out pairs of a recipe, in the order of their files."""
    sources, kind = recipe.data.eval_sources, eval_objective(recipe).takes
    return _stream(recipe, sources, kind=kind, shuffle=False)


def _stream(
    recipe: Recipe,
    sources: list[str],
    *,
    kind: str,
    epochs: int = 1,
    shuffle: bool = True,
    skip: int = 0,
) -> ExampleStream:
    return ExampleStream(
        open_sources(sources),
        kind=kind,
        domain=recipe.data.domain,
        shuffle=recipe.data.shuffle if shuffle else 0,
        seed=recipe.seed,
        max_bad_fraction=recipe.data.max_bad_fraction,
        epochs=epochs,
        skip=skip,
    )


def input_fingerprints(recipe: Recipe) -> dict[str, Any]:
    """What a run depends on beside its recipe, in a form that JSON keeps; a hub id stands for
    itself. Raises DataError or OSError where some of it is gone."""
    prints: dict[str, Any] = {"model": _folder_fingerprint(recipe.model)}
    if recipe.lora.start_from is not None:
        prints["adapter in lora.start_from"] = _folder_fingerprint(recipe.lora.start_from)
    if (file := recipe.objective.settings.get("file")) is not None:
        prints["objective"] = file_fingerprint(Path(file))
    prints["data"] = _fingerprints(recipe.data.train_sources)
    if recipe.online is not None and recipe.online.prompt_sources:
        prints["prompts"] = _fingerprints(recipe.online.prompt_sources)
    if recipe.replay is not None:
        prints["memory"] = _fingerprints(recipe.replay.memory)
    if recipe.anchor is not None and recipe.anchor.fisher is not None:
        prints["fisher information"] = file_fingerprint(Path(recipe.anchor.fisher))
    if recipe.data.eval_sources:
        prints["held-out data"] = _fingerprints(recipe.data.eval_sources)
    return prints


def _fingerprints(sources: list[str]) -> list[Any]:
    return [source.fingerprint() for source in open_sources(sources)]


def _folder_fingerprint(name: str) -> list[Any]:
    """Of weights, configuration, tokenizer and chat template."""
    kinds = (".safetensors", ".json", ".jinja")
    return [
        file_fingerprint(path) for path in sorted(Path(name).glob("*")) if path.name.endswith(kinds)
    ] or [name]
