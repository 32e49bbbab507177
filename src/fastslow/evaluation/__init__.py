"""Formulas of metrics; nothing here knows a model."""

from fastslow.evaluation.accuracy import pair_accuracy
from fastslow.evaluation.benchmarks import (
    Benchmark,
    BenchmarkScore,
    read_benchmarks,
    with_benchmark,
)
from fastslow.evaluation.degradation import degradation
from fastslow.evaluation.frontier import at_kl, reward_at_kl
from fastslow.evaluation.intervals import (
    accuracy_interval,
    bootstrap_interval,
    student_interval,
    wilson_interval,
    with_interval,
)
from fastslow.evaluation.metric_sums import MetricSums
from fastslow.evaluation.regret import regret_curve, relative_regret
from fastslow.evaluation.retention import Retention, retention
from fastslow.evaluation.strength import (
    Tried,
    WithinBudget,
    scaled_to_budget,
    strength_within,
)

__all__ = [
    "Benchmark",
    "BenchmarkScore",
    "Retention",
    "MetricSums",
    "Tried",
    "WithinBudget",
    "accuracy_interval",
    "at_kl",
    "bootstrap_interval",
    "degradation",
    "pair_accuracy",
    "read_benchmarks",
    "regret_curve",
    "relative_regret",
    "retention",
    "reward_at_kl",
    "scaled_to_budget",
    "strength_within",
    "student_interval",
    "wilson_interval",
    "with_benchmark",
    "with_interval",
]
