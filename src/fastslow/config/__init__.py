"""Recipes: pydantic models, YAML in, dotted overrides, resolved YAML out. Does not import torch."""

from fastslow.config.continual import (
    AnchorConfig,
    ContinualConfig,
    DomainConfig,
    DriftConfig,
    ReplayConfig,
    domain_settings,
    start_of,
)
from fastslow.config.guest import HOW_TO_TRUST, GuestRecipe, as_guest, judge_reach, open_recipe
from fastslow.config.hints import library_of
from fastslow.config.judging import (
    ClassifierJudgeConfig,
    EnsembleJudgeConfig,
    JudgeConfig,
    LlmJudgeConfig,
    RewardModelJudgeConfig,
    RuleJudgeConfig,
    WorldJudgeConfig,
)
from fastslow.config.live import GateConfig, LiveConfig
from fastslow.config.load import (
    DATA_FILES,
    dump_recipe,
    faults_of_parts,
    flat,
    load_recipe,
    part_recipe,
    part_recipes,
    stage_recipe,
)
from fastslow.config.parts import PART_BEFORE
from fastslow.config.prompts import PromptsConfig, ZopoConfig, check_policy
from fastslow.config.recipe import Recipe
from fastslow.config.sampling import (
    AnswerConfig,
    EngineConfig,
    FilterConfig,
    OnlineConfig,
    OnlineKlConfig,
    RoundsConfig,
    SamplingConfig,
    round_settings,
)
from fastslow.config.sections import (
    BudgetConfig,
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
from fastslow.config.yaml_text import dump_yaml, parse_yaml, read_file

__all__ = [
    "DATA_FILES",
    "GateConfig",
    "LiveConfig",
    "PART_BEFORE",
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
    "BudgetConfig",
    "ChaseConfig",
    "CheckpointConfig",
    "ContinualConfig",
    "DataConfig",
    "GuestRecipe",
    "as_guest",
    "HOW_TO_TRUST",
    "judge_reach",
    "open_recipe",
    "DomainConfig",
    "DriftConfig",
    "EvalConfig",
    "LoraConfig",
    "MovingReferenceConfig",
    "ObjectiveConfig",
    "OnlineKlConfig",
    "Recipe",
    "PromptsConfig",
    "ReplayConfig",
    "RoundsConfig",
    "SamplingConfig",
    "StageConfig",
    "TrainConfig",
    "ZopoConfig",
    "check_policy",
    "domain_settings",
    "dump_recipe",
    "dump_yaml",
    "parse_yaml",
    "read_file",
    "faults_of_parts",
    "flat",
    "library_of",
    "load_recipe",
    "recipe_names",
    "recipe_summary",
    "recipe_text",
    "round_settings",
    "part_recipe",
    "part_recipes",
    "stage_recipe",
    "start_of",
]
