"""Everything that a run consists of, built and ready for the loop."""

from dataclasses import dataclass
from typing import Any

from fastslow.config import Recipe
from fastslow.scoring import Encoder
from fastslow.streams import ExampleStream, ReplayStream
from fastslow.training.data.delayed_labels import DelayedLabels
from fastslow.training.data.reader import Reader
from fastslow.training.loop.evaluator import Evaluator
from fastslow.training.loop.learner import Learner
from fastslow.training.memory.estimate import MemoryEstimate


@dataclass(frozen=True, slots=True)
class Components:
    """The parts of an ordinary run."""

    recipe: Recipe
    tokenizer: Any
    encoder: Encoder
    learner: Learner
    reader: Reader
    stream: ExampleStream | ReplayStream
    """What the reader reads."""
    delayed_labels: DelayedLabels | None
    """Where labels come late, what is shown meanwhile."""
    evaluator: Evaluator | None
    """None without held-out data."""
    heldout_counts: dict[str, int]
    total_steps: int | None
    """Optimiser steps planned; None for a stream without a known end."""
    memory: MemoryEstimate | None
    """What the run will take; None where that is no question."""
    warnings: list[str]
    """What looks odd about the data."""
