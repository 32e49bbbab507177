"""Evaluation with external tools: their files, their commands, their results."""

from fastslow.errors import ConfigError, did_you_mean
from fastslow.harnesses.alpaca import AlpacaEval
from fastslow.harnesses.arena_hard import ArenaHard
from fastslow.harnesses.base import EvaluatedRun, EvaluationRequest, Harness, ToolCommand
from fastslow.harnesses.lm_eval import LmEval
from fastslow.harnesses.mt_bench import MtBench
from fastslow.harnesses.reward_bench import RewardBench
from fastslow.harnesses.run import ToolEvaluation, read_evaluation, run_harness

HARNESSES: tuple[Harness, ...] = (
    LmEval(), AlpacaEval(), MtBench(), ArenaHard(), RewardBench(),
)  # fmt: skip
"""The supported tools."""


def harness_named(name: str) -> Harness:
    """The tool of that name. Raises ConfigError with the known names."""
    known = {harness.name: harness for harness in HARNESSES}
    if name not in known:
        hint = did_you_mean(name, known)
        raise ConfigError(f"with: got {name!r}; allowed are {', '.join(known)}{hint}")
    return known[name]


__all__ = [
    "HARNESSES",
    "EvaluatedRun",
    "EvaluationRequest",
    "Harness",
    "ToolCommand",
    "ToolEvaluation",
    "harness_named",
    "read_evaluation",
    "run_harness",
]
