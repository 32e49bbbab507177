"""Sampling from a policy."""

from fastslow.sampling.batching import Batching
from fastslow.sampling.engine import RANKS, Engine, EngineCompletion, vllm_room
from fastslow.sampling.generate import Completion, generate
from fastslow.sampling.probe import probe_batching

__all__ = [
    "RANKS",
    "Batching",
    "Completion",
    "Engine",
    "EngineCompletion",
    "generate",
    "probe_batching",
    "vllm_room",
]
