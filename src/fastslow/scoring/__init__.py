"""Text to tokens to tree batch to summed log-probs: the only place that shifts, masks and sums."""

from fastslow.scoring.encode import Dropped, EncodedPair, Encoder, Tree, truncate
from fastslow.scoring.score import Layout, Scorer, probe_layout, token_logps
from fastslow.scoring.tree import TreeBatch, tree_batch

__all__ = [
    "Dropped",
    "EncodedPair",
    "Encoder",
    "Layout",
    "Scorer",
    "Tree",
    "TreeBatch",
    "probe_layout",
    "token_logps",
    "tree_batch",
    "truncate",
]
