"""What a recipe learns from and depends on: its objective's kind of examples, off its sources."""

from pathlib import Path
from typing import Any

from fastslow.config import ObjectiveConfig, Recipe
from fastslow.errors import ConfigError
from fastslow.objectives import Objective, make_objective, objective_settings
from fastslow.streams import ExampleStream, ReplayStream, file_fingerprint, open_sources


def objective_of(recipe: Recipe) -> Objective:
    """The recipe's objective with its settings."""
    return make_objective(recipe.objective.name, **recipe.objective.settings)


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
        epochs=epochs or recipe.train.epochs,
        skip=recipe.data.skip,
    )


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
    return _stream(recipe, recipe.data.eval_sources, shuffle=False)


def _stream(
    recipe: Recipe, sources: list[str], *, epochs: int = 1, shuffle: bool = True, skip: int = 0
) -> ExampleStream:
    return ExampleStream(
        open_sources(sources),
        kind=objective_of(recipe).takes,
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
