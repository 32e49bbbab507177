"""What a judge's verdicts depend on besides its settings: the content of its files."""

from pathlib import Path
from typing import Any

from fastslow.config import (
    ClassifierJudgeConfig,
    EnsembleJudgeConfig,
    JudgeConfig,
    LlmJudgeConfig,
    RewardModelJudgeConfig,
    RuleJudgeConfig,
    WorldJudgeConfig,
)
from fastslow.judges.reward_model import folders_of
from fastslow.streams import file_fingerprint, folder_fingerprint, open_sources


def judge_fingerprint(config: JudgeConfig) -> list[Any]:
    """The fingerprint as JSON, without loading anything; for a model behind a URL, URL and name.

    Raises OSError or DataError where a file is missing.
    """
    match config:
        case WorldJudgeConfig() | RuleJudgeConfig():
            return file_fingerprint(Path(config.file))
        case ClassifierJudgeConfig():
            return [source.fingerprint() for source in open_sources(config.sources)]
        case RewardModelJudgeConfig():
            return [folder_fingerprint(folder) for folder in folders_of(config.folder)]
        case LlmJudgeConfig():
            return [config.url, config.model]
        case EnsembleJudgeConfig():
            return [judge_fingerprint(member) for member in config.members]
