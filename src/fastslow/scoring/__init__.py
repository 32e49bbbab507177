"""Text to tokens to tree batch to summed log-probs: the only place that shifts, masks and sums."""

from fastslow.scoring.layers import (
    ActivationCheckpointing,
    compile_layers,
    layers_of,
    unwrap_layers,
)
from fastslow.scoring.lm_head import token_logps
from fastslow.scoring.probe import computes_coarsely, longest_decides, probe_layout, window_below
from fastslow.scoring.score import STATISTICS, Layout, Scorer, Scores, Sizes
from fastslow.scoring.text.encode import Dropped, Encoded, Encoder
from fastslow.scoring.text.rendered_pair import RenderedPair, rendered_pair
from fastslow.scoring.text.token_tree import Tree, truncate
from fastslow.scoring.tree import TreeBatch, tree_batch

__all__ = [
    "STATISTICS",
    "Dropped",
    "Encoded",
    "Encoder",
    "Layout",
    "RenderedPair",
    "ActivationCheckpointing",
    "Scorer",
    "Scores",
    "Sizes",
    "Tree",
    "TreeBatch",
    "compile_layers",
    "computes_coarsely",
    "layers_of",
    "longest_decides",
    "probe_layout",
    "rendered_pair",
    "token_logps",
    "tree_batch",
    "truncate",
    "unwrap_layers",
    "window_below",
]
