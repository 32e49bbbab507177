"""Recipes: pydantic models, YAML in, dotted overrides, resolved YAML out. Loads without torch."""

from fastslow.config.load import dump_recipe, flat, load_recipe
from fastslow.config.recipe import (
    AnchorConfig,
    ChaseConfig,
    CheckpointConfig,
    ContinualConfig,
    DataConfig,
    DomainConfig,
    DriftConfig,
    EvalConfig,
    LoraConfig,
    ObjectiveConfig,
    Recipe,
    ReplayConfig,
    TrainConfig,
)

__all__ = [
    "AnchorConfig",
    "ChaseConfig",
    "CheckpointConfig",
    "ContinualConfig",
    "DataConfig",
    "DomainConfig",
    "DriftConfig",
    "EvalConfig",
    "LoraConfig",
    "ObjectiveConfig",
    "Recipe",
    "ReplayConfig",
    "TrainConfig",
    "dump_recipe",
    "flat",
    "load_recipe",
]
