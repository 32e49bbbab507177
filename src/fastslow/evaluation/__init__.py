"""Formulas of the measurements; nothing here knows a model."""

from fastslow.evaluation.accuracy import pair_accuracy
from fastslow.evaluation.tally import Tally

__all__ = ["Tally", "pair_accuracy"]
