"""The YAML head of a model card, which the Hub reads."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastslow.adapters import at_revision, model_folder
from fastslow.config import Recipe, dump_yaml, parse_yaml, read_file
from fastslow.errors import ConfigError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?", re.ASCII)
LICENCE = ("license", "license_name", "license_link")
"""Keys of a model card's licence; the last two go with `other`."""
LONGEST = 200


def hub_id(name: str) -> str | None:
    """A name as a Hub id, at a revision if it has one; None if it is a path on this machine, or no
    valid id."""
    return name if HUB_ID.fullmatch(name) and not Path(name).exists() else None


def data_sources(recipe: Recipe) -> list[str]:
    """The sources that a run learned from, each once."""
    sources = list(recipe.data.train_sources)
    for domain in recipe.continual.domains if recipe.continual else []:
        sources += domain.train_sources
    return list(dict.fromkeys(sources))


def dataset_id(source: str) -> str | None:
    """The Hub id of a source of rows; None for files and anything else on this machine."""
    name = source.partition(":")[0]
    return hub_id(name) if "/" in name and not Path(source).exists() else None


def front_matter(recipe: Recipe, base: str | None, *, merged: bool) -> str:
    """The head of the card.

    Args:
        recipe: of the run.
        base: the Hub id of the base, if it has one; its revision is dropped, as the Hub takes none.
        merged: whether the folder holds a whole model.
    """
    rewards = recipe.task == "reward"
    datasets = [name for source in data_sources(recipe) if (name := dataset_id(source))]
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
    """The licence keys of the base's own model card; empty if it names no licence."""
    folder = model_folder(model)
    try:
        text = read_file(folder / "README.md", what="the base's README.md") if folder else ""
        head = parse_yaml(_head(text), what="the base's README.md")
    except (ConfigError, FileNotFoundError):  # It is the base's file; nothing depends on it.
        return {}
    fields: Mapping[str, Any] = head if isinstance(head, dict) else {}
    named = {key: fields[key] for key in LICENCE if key in fields}
    valid = all(
        isinstance(v, str) and v.isprintable() and len(v) <= LONGEST for v in named.values()
    )
    return named if valid and "license" in named else {}


def _head(text: str) -> str:
    opening, _, rest = text.partition("\n")
    return rest.partition("\n---")[0] if opening.strip() == "---" else ""
