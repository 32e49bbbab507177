"""From a recipe to a trained adapter. The only door to accelerate."""

from fastslow.training.summary import RunSummary
from fastslow.training.run import train

__all__ = ["RunSummary", "train"]
