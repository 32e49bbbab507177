"""What of a recipe says how votes are learned."""

from fastslow.config import Recipe
from fastslow.errors import ConfigError

OF_RUNS = (
    "rounds", "online", "filter", "judge", "stages", "continual", "drift", "publish", "replay",
    "anchor", "online_kl", "report_to", "prompts",
)  # fmt: skip
"""Sections of runs that read their own data, or end."""


def check_live(recipe: Recipe) -> None:
    """Raises ConfigError with every setting that has no effect on what is learned from votes."""
    faults = [
        f"{name}: has no effect on what is learned from votes; remove it"
        for name in OF_RUNS
        if getattr(recipe, name)
    ]
    for key in ("train", "eval"):
        if getattr(recipe.data, key):
            faults.append(f"data.{key}: votes come from the live folder; remove it")
    if recipe.train.schedule != "constant":
        faults.append("train.schedule: votes have no end; set it to 'constant'")
    if recipe.task != "policy":
        faults.append("task: votes teach a policy; remove it")
    if faults:
        raise ConfigError(*faults)
