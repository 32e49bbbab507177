"""Sampling from a policy."""

from fastslow.sampling.engine import Engine, EngineCompletion
from fastslow.sampling.generate import Completion, generate

__all__ = ["Completion", "Engine", "EngineCompletion", "generate"]
