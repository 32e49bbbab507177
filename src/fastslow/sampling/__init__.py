"""Answers drawn from a policy."""

from fastslow.sampling.generate import Sample, generate

__all__ = ["Sample", "generate"]
