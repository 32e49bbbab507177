"""Recipes: pydantic models, YAML in, dotted overrides, resolved YAML out. Loads without torch."""

from fastslow.config.continual import (
    AnchorConfig,
    ContinualConfig,
    DomainConfig,
    DriftConfig,
    ReplayConfig,
)
from fastslow.config.judging import (
    ClassifierJudgeConfig,
    EnsembleJudgeConfig,
    JudgeConfig,
    LlmJudgeConfig,
    RewardModelJudgeConfig,
    RuleJudgeConfig,
    WorldJudgeConfig,
)
from fastslow.config.load import (
    STAGE_BEFORE,
    dump_recipe,
    flat,
    load_recipe,
    stage_recipe,
    stage_recipes,
)
from fastslow.config.recipe import Recipe
from fastslow.config.sampling import (
    AnswerConfig,
    EngineConfig,
    FilterConfig,
    OnlineConfig,
    OnlineKlConfig,
    RoundsConfig,
    SamplingConfig,
)
from fastslow.config.sections import (
    ChaseConfig,
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LoraConfig,
    MovingReferenceConfig,
    ObjectiveConfig,
    TrainConfig,
)
from fastslow.config.shipped import recipe_names, recipe_summary, recipe_text
from fastslow.config.stages import StageConfig

__all__ = [
    "STAGE_BEFORE",
    "AnswerConfig",
    "EngineConfig",
    "FilterConfig",
    "OnlineConfig",
    "ClassifierJudgeConfig",
    "EnsembleJudgeConfig",
    "JudgeConfig",
    "LlmJudgeConfig",
    "RewardModelJudgeConfig",
    "RuleJudgeConfig",
    "WorldJudgeConfig",
    "AnchorConfig",
    "ChaseConfig",
    "CheckpointConfig",
    "ContinualConfig",
    "DataConfig",
    "DomainConfig",
    "DriftConfig",
    "EvalConfig",
    "LoraConfig",
    "MovingReferenceConfig",
    "ObjectiveConfig",
    "OnlineKlConfig",
    "Recipe",
    "ReplayConfig",
    "RoundsConfig",
    "SamplingConfig",
    "StageConfig",
    "TrainConfig",
    "dump_recipe",
    "flat",
    "load_recipe",
    "recipe_names",
    "recipe_summary",
    "recipe_text",
    "stage_recipe",
    "stage_recipes",
]
