"""Trains adapters from recipes. The only door to accelerate."""

from fastslow.training.run import train
from fastslow.training.state.summary import RunSummary

__all__ = ["RunSummary", "train"]
