"""Opens an unfinished run at its newest checkpoint."""

from pathlib import Path
from typing import Any

from fastslow.adapters import Modules
from fastslow.config import Recipe
from fastslow.errors import StateError
from fastslow.training.policies.loading import make_modules, reference_policy
from fastslow.training.state.checkpoint import Snapshot, read_newest
from fastslow.training.state.summary import RunSummary, versions

TRIES = 3
"""Attempts at reading: a run in progress removes old checkpoints while they are being read."""


def newest(folder: Path) -> Snapshot:
    """The newest checkpoint of a run. Raises StateError where it has none."""
    for left in reversed(range(TRIES)):
        try:
            snapshot, _ = read_newest(folder / "checkpoints")
        except OSError:
            if not left:
                raise
            continue
        if snapshot is not None:
            return snapshot
    parts = sorted(
        path.parent
        for place in ("stages", "rounds", "domains")
        for path in folder.glob(f"{place}/*/config.yaml")
    )
    if parts:
        raise StateError(
            f"the run in {folder} is not finished; run its train command again, or name one of its "
            f"parts: {', '.join(map(str, parts))}"
        )
    raise StateError(
        f"the run in {folder} is not finished and has no checkpoint yet; run its train command "
        "again"
    )


def summary_at(snapshot: Snapshot, recipe: Recipe) -> RunSummary:
    """What is known of a run at a checkpoint; its adapters have no folders yet."""
    facts: Any = snapshot.facts
    return RunSummary(
        steps=facts["step"],
        pairs_seen=facts["pairs_seen"],
        leader=facts["selector"]["leader"],
        swaps=facts["swaps"],
        reference=reference_policy(recipe),
        eval={"start": facts["start"], "final": None},
        ended="checkpoint",
        pairs_taken=facts["pairs_seen"],
        prequential={},
        data={},
        skipped_examples=[],
        adapters=dict.fromkeys(recipe.module_names, ""),
        hashes={},
        versions=versions(),
        device="",
        wall_s=facts["wall_s"],
        running=facts["running"],
        warnings=[_unfinished(facts["step"], recipe)],
    )


def _unfinished(step: int, recipe: Recipe) -> str:
    message = f"the run is not finished: this is its checkpoint of step {step}"
    return message if recipe.budget is None else f"{message}, which is not scaled to the KL budget"


def modules_at(snapshot: Snapshot, recipe: Recipe, base: Any) -> Modules:
    """The run's modules on its base, with the weights of a checkpoint, frozen."""
    modules = make_modules(recipe, base, critic=False)
    for name in modules.trainable:
        modules.load_tensors(name, dict(snapshot.tensors["modules"]))
        for parameter in modules.parameters(name).values():
            parameter.requires_grad_(False)
    return modules
