"""Checks that a recipe's settings apply to learning from votes."""

from fastslow.config import LiveConfig, Recipe
from fastslow.errors import ConfigError

OF_RUNS = (
    "rounds", "online", "filter", "judge", "stages", "continual", "drift", "publish", "replay",
    "anchor", "online_kl", "report_to", "prompts",
)  # fmt: skip
"""Sections for runs that read their own data, or that end."""


def check_live(recipe: Recipe) -> None:
    """Raises ConfigError with every setting that has no effect on learning from votes."""
    faults = [
        f"{name}: has no effect on learning from votes; remove it"
        for name in OF_RUNS
        if getattr(recipe, name)
    ]
    for key in ("train", "eval"):
        if getattr(recipe.data, key):
            faults.append(f"data.{key}: votes come from the live folder; remove it")
    if recipe.train.schedule != "constant":
        faults.append("train.schedule: votes never end; set it to 'constant'")
    if recipe.task != "policy":
        faults.append("task: votes train a policy; remove it")
    if recipe.budget is None and (recipe.live or LiveConfig()).gate.kl_to_champion is None:
        faults.append(
            "live.gate.kl_to_champion: without a KL budget nothing limits how far an update may be "
            "from the serving policy; set it in nats per answer, or remove budget=null"
        )
    if faults:
        raise ConfigError(*faults)
