"""The model card of an exported run: how it was made, what was measured, how to load it.

It never holds rows of the data or paths of this machine, as cards are published.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from fastslow.config import Recipe, flat
from fastslow.training.export.card.front_matter import (
    data_sources,
    dataset_id,
    front_matter,
    hub_id,
)
from fastslow.training.export.card.markdown import code, number, table
from fastslow.training.export.card.results import results
from fastslow.training.export.card.usage import usage
from fastslow.training.state.summary import ContinualSummary, RunSummary

SETTINGS = (
    "seed", "lora.", "objective.", "chase.", "train.", "budget.", "moving_reference.",
    "online_kl.", "online.", "rounds.", "filter.", "replay.", "anchor.", "data.max_length",
    "data.template", "data.shuffle", "eval.num_", "eval.max_",
)  # fmt: skip
"""Prefixes of the recipe keys that are listed."""
PLACES = ("start_from", "file", "memory", "fisher", "prompts", "engine", "device")
"""Parts of keys that hold paths or places, which are left out."""

ALWAYS = ("read", "skipped")
"""Counts listed even if they are 0."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What a card is about.

    Attributes:
        name: of the run's folder.
        module: the module that was exported.
        recipe: of the run.
        summary: of the run.
        base: the Hub id of the base; None takes the recipe's model, if that is one.
        place: what a reader loads the folder by: a Hub id, or a path.
        merge_error: KL of a whole model to its adapter, nats per token; None for an adapter.
    """

    name: str
    module: str
    recipe: Recipe
    summary: RunSummary | ContinualSummary
    base: str | None = None
    place: str = "."
    merge_error: float | None = None


def model_card(exported: Exported, folder: Path) -> str:
    """The text of README.md for a folder that already holds an exported run."""
    recipe, merged = exported.recipe, exported.merge_error is not None
    base = exported.base or hub_id(recipe.model)
    parts = [
        front_matter(recipe, base, merged=merged),
        f"# {code(exported.name)}\n",
        f"{_opening(exported, base)}\n",
        f"## Method\n\n{table(['', ''], _method(exported))}\n",
        f"## Data\n\n{_data(exported)}\n",
        f"## Results\n\n{results(exported.summary)}\n",
        f"## Use\n\n{usage(folder, recipe, base, exported.place, merged=merged)}",
        f"## Settings\n\n{table(['key', 'value'], _settings(recipe))}\n",
        f"## Versions\n\n{table(['package', 'version'], _versions(exported.summary))}\n",
    ]
    return "\n".join(parts)


def _opening(exported: Exported, base: str | None) -> str:
    name = code(base or PurePath(exported.recipe.model).name)
    goal = (
        "scores answers as people prefer them"
        if exported.recipe.task == "reward"
        else "was taught from people's preferences"
    )
    if exported.merge_error is not None:
        kl = f"Its KL to the adapter is {exported.merge_error:.1e} nats per token."
        what = f"The model {name} with the LoRA adapter {code(exported.module)} folded in, which"
        return f"{what} {goal} with fastslow. {kl}"
    return (
        f"A LoRA adapter for {name} (module {code(exported.module)}), which {goal} with fastslow."
    )


def _method(exported: Exported) -> Iterator[list[str]]:
    recipe, summary = exported.recipe, exported.summary
    yield ["objective", code(recipe.objective.name)]
    yield ["reference", code(summary.reference)]
    if recipe.chase is not None:
        names = ", ".join(map(code, recipe.chase.modules))
        yield ["fast-slow chasing", f"modules {names}, alpha {recipe.chase.alpha}"]
    if isinstance(summary, RunSummary):
        yield ["leader", f"{code(summary.leader)}, after {number(summary.swaps)} swaps"]
        if summary.parts:
            yield ["parts", ", ".join(map(code, summary.parts)) + "; numbers are of the last"]
    else:
        if summary.domains:
            yield ["domains", ", ".join(map(code, summary.domains))]
        for name, weight in (summary.weights or {}).items():
            yield [f"weight of {code(name)}", number(weight)]
    for section in ("rounds", "online", "filter", "moving_reference", "online_kl"):
        if getattr(recipe, section) is not None:
            yield ["with", code(section)]
    if recipe.judge is not None:
        yield ["judge", code(recipe.judge.kind)]
    if summary.budget is not None:
        yield ["KL budget", _budget(summary.budget)]


def _budget(budget: dict[str, object]) -> str:
    return (
        f"{number(budget.get('reverse_kl'))} of at most {number(budget.get('limit'))} nats per "
        f"answer, at strength {number(budget.get('strength'))}"
    )


def _data(exported: Exported) -> str:
    summary = exported.summary
    sources = [[code(_source_name(source))] for source in data_sources(exported.recipe)]
    counts = [["steps", number(summary.steps)], ["rows learned", number(summary.pairs_seen)]]
    if isinstance(summary, RunSummary):
        counts += [
            [code(key), number(count)]
            for key, count in summary.data.items()
            if count or key in ALWAYS
        ]
    return "\n\n".join(filter(None, [table(["source"], sources), table(["", "count"], counts)]))


def _source_name(source: str) -> str:
    """A dataset's id, or the last part of a path, as the rest of it is private."""
    if source.startswith("feedback:"):
        return "votes of a fastslow server"
    if source == "-":
        return "standard input"
    return source if dataset_id(source) else PurePath(source).name


def _settings(recipe: Recipe) -> Iterator[list[str]]:
    for key, value in flat(recipe.model_dump(mode="json")).items():
        listed = key.startswith(SETTINGS) and not set(key.split(".")) & set(PLACES)
        if listed and value is not None:
            yield [code(key), code(value)]


def _versions(summary: RunSummary | ContinualSummary) -> Iterator[list[str]]:
    for name, version in summary.versions.items():
        yield [code(name), code(version)]
