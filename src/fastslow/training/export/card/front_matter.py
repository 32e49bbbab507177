"""What the Hub reads of a model card: its YAML head."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastslow.adapters import at_revision, model_folder
from fastslow.config import Recipe, dump_yaml, parse_yaml, read_file
from fastslow.errors import ConfigError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?", re.ASCII)
LICENCE = ("license", "license_name", "license_link")
"""What a model card says of a licence; the last two go with `other`."""
LONGEST = 200


def hub_id(name: str) -> str | None:
    """A name as an id of the Hub, at a revision if it has one; None where it is a path here, or can
    be no id."""
    return name if HUB_ID.fullmatch(name) and not Path(name).exists() else None


def data_sources(recipe: Recipe) -> list[str]:
    """The texts of what a run learned from, each once."""
    sources = list(recipe.data.train_sources)
    for domain in recipe.continual.domains if recipe.continual else []:
        sources += domain.train_sources
    return list(dict.fromkeys(sources))


def dataset_id(source: str) -> str | None:
    """The Hub's id of a source of rows; None for files and everything else that is here."""
    name = source.partition(":")[0]
    return hub_id(name) if "/" in name and not Path(source).exists() else None


def front_matter(recipe: Recipe, base: str | None, *, merged: bool) -> str:
    """The head of the card.

    Args:
        recipe: of the run.
        base: the Hub's id of the base, where it has one; the Hub knows no revision of it.
        merged: whether the folder holds a whole model.
    """
    rewards = recipe.task == "reward"
    datasets = [found for one in data_sources(recipe) if (found := dataset_id(one))]
    kind = "finetune" if merged else "adapter"
    values: dict[str, Any] = {
        **({"base_model": at_revision(base)[0], "base_model_relation": kind} if base else {}),
        "library_name": "transformers" if merged else "peft",
        "pipeline_tag": "text-classification" if rewards else "text-generation",
        "tags": [
            "fastslow",
            *([] if merged else ["lora"]),
            "reward-model" if rewards else "preference-learning",
        ],
        **({"datasets": datasets} if datasets else {}),
        **licence_of(recipe.model),
    }
    return f"---\n{dump_yaml(values)}---\n"


def licence_of(model: str) -> dict[str, str]:
    """The licence that a base's own model card names, as its keys there; empty without one."""
    folder = model_folder(model)
    try:
        text = read_file(folder / "README.md", what="the base's README.md") if folder else ""
        head = parse_yaml(_head(text), what="the base's README.md")
    except (ConfigError, FileNotFoundError):  # It is the base's: nothing here depends on it.
        return {}
    said: Mapping[str, Any] = head if isinstance(head, dict) else {}
    named = {key: said[key] for key in LICENCE if key in said}
    fit = all(isinstance(v, str) and v.isprintable() and len(v) <= LONGEST for v in named.values())
    return named if fit and "license" in named else {}


def _head(text: str) -> str:
    opening, _, rest = text.partition("\n")
    return rest.partition("\n---")[0] if opening.strip() == "---" else ""
