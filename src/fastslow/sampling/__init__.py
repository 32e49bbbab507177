"""Answers drawn from a policy."""

from fastslow.sampling.engine import Engine, Said
from fastslow.sampling.generate import Sample, generate

__all__ = ["Engine", "Said", "Sample", "generate"]
