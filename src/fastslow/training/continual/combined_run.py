"""Writes a combination of finished runs' modules as a run folder that every command takes.

combined/
  adapter_config.json, adapter_model.safetensors   the policy, an ordinary PEFT folder; of `routed`
                                                   one folder for each module, and the router
  combination.json, summary.json                   how it was made
  config.yaml     how prompts are encoded, and the held-out pairs of all the runs together
  inputs.json     fingerprints of the base, of the runs' data and of the modules' weights
  memory.jsonl    the examples kept with the modules, to combine it again
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastslow.adapters import BASE, Entry
from fastslow.atomic_io import file_hash
from fastslow.config import Recipe, dump_recipe, load_recipe
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.streams import file_fingerprint
from fastslow.training.continual.combined import Combination
from fastslow.training.state.summary import ContinualSummary, versions

ENCODING = (
    "model",
    "seed",
    "load_in_4bit",
    "trust_remote_code",
    "objective",
    "train",
    "eval",
    "budget",
)
"""Keys that a combination takes from its last module's recipe, besides the section data."""


def write_combined_run(
    draft: Path,
    made: Combination,
    entries: Sequence[Entry],
    recipe: Recipe,
    *,
    output_dir: Path,
    device: str,
    wall_s: float,
) -> None:
    """Turn a folder that holds a combination into a run folder.

    Args:
        draft: the folder, with what `write_combination` wrote.
        made: how it was made.
        entries: what it was made of.
        recipe: of the last entry.
        output_dir: where the folder will be.
        device: where weights were fitted.
        wall_s: how long that took, seconds.
    """
    text = dump_recipe(combined_recipe(recipe, entries, output_dir))
    (draft / "config.yaml").write_text(text, encoding="utf-8")
    inputs = {
        "model": entries[0].base,
        "data": [entry.data for entry in entries],
        "modules": [file_fingerprint(entry.folder / ADAPTER_WEIGHTS) for entry in entries],
    }
    (draft / "inputs.json").write_text(json.dumps(inputs, indent=1) + "\n", encoding="utf-8")
    kept = [entry.memory.read_text(encoding="utf-8") for entry in entries]
    (draft / "memory.jsonl").write_text("".join(kept), encoding="utf-8")
    adapters = {name: made.place(name) for name in made.modules}
    hashes = {"recipe": file_hash(draft / "config.yaml")}
    for name, place in adapters.items():
        hashes[f"adapter/{name}"] = file_hash(draft / place / ADAPTER_WEIGHTS)
    summary = ContinualSummary(
        domains=[],
        runs=[],
        policy=made.policy,
        weights=made.weights,
        budget=made.budget,
        measured=[],
        initial=[],
        after=[],
        metrics={},
        reference=BASE,
        adapters=adapters,
        steps=0,
        pairs_seen=0,
        hashes=hashes,
        versions=versions(),
        device=device,
        wall_s=round(wall_s, 3),
    )
    summary.write(draft / "summary.json")


def combined_recipe(recipe: Recipe, entries: Sequence[Entry], output_dir: Path) -> Recipe:
    """The recipe that a combination is encoded and measured with: its last module's, against the
    base, with the data of all modules."""
    whole: dict[str, Any] = recipe.model_dump(mode="json")
    sections = [load_recipe(entry.config).data for entry in entries]
    held_out = list(dict.fromkeys(source for data in sections for source in data.eval_sources))
    settings = {key: whole[key] for key in ENCODING}
    settings["eval"] = {**whole["eval"], "judge": whole["eval"]["judge"] or whole["judge"]}
    if whole["eval"]["max_new_tokens"] >= recipe.data.max_length:  # It had no held-out pairs.
        settings["eval"]["max_new_tokens"] = recipe.data.max_length // 2
    settings["data"] = {
        **whole["data"],
        "train": list(dict.fromkeys(source for data in sections for source in data.train_sources)),
        "eval": held_out or None,
        "domain": None,
        "label_delay": 0,
        "skip": 0,
    }
    return Recipe.model_validate({**settings, "output_dir": str(output_dir), "chase": None})
