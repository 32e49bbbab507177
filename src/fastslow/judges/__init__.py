"""Judges of which answer is better: world, rule, classifier, reward or language model, ensemble."""

from pathlib import Path

from fastslow.config import (
    ClassifierJudgeConfig,
    EnsembleJudgeConfig,
    JudgeConfig,
    LlmJudgeConfig,
    RewardModelJudgeConfig,
    RuleJudgeConfig,
    WorldJudgeConfig,
)
from fastslow.judges.base import Judge, Judgement, JudgeRequest, compared, scored
from fastslow.judges.classifier import ClassifierJudge
from fastslow.judges.ensemble import EnsembleJudge
from fastslow.judges.fingerprint import judge_fingerprint
from fastslow.judges.llm import LlmJudge
from fastslow.judges.objects import ObjectJudge, as_judge
from fastslow.judges.reward_model import RewardModelJudge
from fastslow.judges.rule import RuleJudge
from fastslow.judges.world import WorldJudge

__all__ = [
    "JudgeRequest",
    "ClassifierJudge",
    "EnsembleJudge",
    "Judge",
    "Judgement",
    "LlmJudge",
    "ObjectJudge",
    "RewardModelJudge",
    "RuleJudge",
    "WorldJudge",
    "as_judge",
    "compared",
    "judge_fingerprint",
    "make_judge",
    "scored",
]


def make_judge(config: JudgeConfig, *, device: str = "auto") -> Judge:
    """The judge that a recipe asks for; `device` is its `train.device`, for judges that are models.

    Raises ConfigError or DataError.
    """
    match config:
        case WorldJudgeConfig():
            return WorldJudge(Path(config.file))
        case RuleJudgeConfig():
            return RuleJudge(Path(config.file), config.function)
        case ClassifierJudgeConfig():
            return ClassifierJudge(config.sources, positive=config.positive)
        case RewardModelJudgeConfig():
            return RewardModelJudge(
                config.folder,
                template=config.template,
                max_length=config.max_length,
                batch_size=config.batch_size,
                device=device,
            )
        case LlmJudgeConfig():
            return LlmJudge(**config.model_dump(exclude={"kind"}))
        case EnsembleJudgeConfig():
            return EnsembleJudge([make_judge(member, device=device) for member in config.members])
