"""The compared methods: how each trains, and which of its policies is evaluated.

A training is a set of recipe changes; several methods may share one. Fast-slow modules chase with
the recipe's defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SEQUENTIAL = {"start": "continue", "weights": None}

WIDE = 24
"""Rank of a wide student: the sum of the ranks of three modules of rank 8."""
JOINT = "joint"
"""Training on all domains at once, shuffled, as one ordinary run."""
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "fresh-ofs": {"continual": {"start": "fresh", "weights": "learned"}},
    "fresh-distilled": {"continual": {"start": "fresh", "weights": "distilled"}},
    "fresh-distilled-wide": {
        "continual": {"start": "fresh", "weights": "distilled", "recompress": WIDE}
    },
    "continued-distilled": {
        "reference": "base",
        "continual": {"start": "continue", "weights": "distilled"},
    },
    "continued-distilled-previous": {
        "reference": "previous",
        "continual": {"start": "continue", "weights": "distilled"},
    },
    "fresh-dpo": {"chase": None, "continual": {"start": "fresh", "weights": "learned"}},
    "sequential-base": {"chase": None, "reference": "base", "continual": SEQUENTIAL},
    "sequential-previous": {"chase": None, "reference": "previous", "continual": SEQUENTIAL},
    "replay": {"chase": None, "continual": {**SEQUENTIAL, "replay": 0.25}},
    "l2-sp": {
        "chase": None,
        "continual": {**SEQUENTIAL, "anchor": "l2_sp", "anchor_strength": 0.01},
    },
    "ewc": {"chase": None, "continual": {**SEQUENTIAL, "anchor": "ewc", "anchor_strength": 100.0}},
    JOINT: {"chase": None},
}


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    training: str
    policy: str = "own"
    """`own`: the training's final policy; `oracle`: each domain's own module on that domain; else
    how the modules of its bank are combined afterwards."""
    says: str = ""
    """A short description."""


METHODS: Mapping[str, Method] = {
    "oracle": Method("fresh-ofs", "oracle", "each domain's own fast-slow module, given the domain"),
    "cofs-routed": Method("fresh-ofs", "routed", "fast-slow modules, one chosen by the prompt"),
    "cofs": Method("fresh-ofs", "own", "fast-slow modules, learned weights (COFS-DPO)"),
    "distilled": Method("fresh-distilled", "own", "one student, domain by domain"),
    "distilled-wide": Method(
        "fresh-distilled-wide", "own", f"one student of rank {WIDE}, domain by domain"
    ),
    "distilled-continued": Method("continued-distilled", "own", "the same, from the student"),
    "distilled-previous": Method(
        "continued-distilled-previous", "own", "the same, reference the student"
    ),
    "distilled-at-once": Method("fresh-ofs", "distilled", "one student of all modules at once"),
    "cofs-uniform": Method("fresh-ofs", "uniform", "fast-slow modules, averaged"),
    "cofs-without-chase": Method("fresh-dpo", "own", "plain DPO modules, learned weights"),
    "joint": Method(JOINT, "own", "DPO on all domains at once"),
    "replay": Method("replay", "own", "sequential DPO, a quarter of the pairs replayed"),
    "ewc": Method("ewc", "own", "sequential DPO with EWC"),
    "l2-sp": Method("l2-sp", "own", "sequential DPO with L2-SP"),
    "sequential-base": Method("sequential-base", "own", "sequential DPO, reference base"),
    "sequential-previous": Method(
        "sequential-previous", "own", "sequential DPO, reference previous policy"
    ),
}
