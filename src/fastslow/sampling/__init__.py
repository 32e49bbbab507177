"""Sampling from a policy."""

from fastslow.sampling.engine import Engine, EngineCompletion
from fastslow.sampling.generate import Batching, Completion, generate
from fastslow.sampling.probe import probe_batching

__all__ = [
    "Batching",
    "Completion",
    "Engine",
    "EngineCompletion",
    "generate",
    "probe_batching",
]
