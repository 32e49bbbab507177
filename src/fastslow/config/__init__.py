"""Recipes: pydantic models, YAML in, dotted overrides, resolved YAML out. Loads without torch."""

from fastslow.config.load import dump_recipe, load_recipe
from fastslow.config.recipe import (
    ChaseConfig,
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LoraConfig,
    ObjectiveConfig,
    Recipe,
    TrainConfig,
)

__all__ = [
    "ChaseConfig",
    "CheckpointConfig",
    "DataConfig",
    "EvalConfig",
    "LoraConfig",
    "ObjectiveConfig",
    "Recipe",
    "TrainConfig",
    "dump_recipe",
    "load_recipe",
]
