"""How prompts go together when a model answers them."""

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batching:
    """How prompts can go together on a model without changing one another's answers."""

    padded: bool = True
    """Prompts of different lengths go together, filled up on the left."""
    read_once: bool = True
    """A prompt is read once for all its answers."""
    kept_once: bool = True
    """Its keys and values are kept once too, see `SharedPrompts`; else once for each answer."""
    cached: bool = True
    """A token is computed from the cache of those before it."""
    stretched: bool = False
    """Whether the longest sequence of a batch decides how all are read, see `longest_decides`."""


TOGETHER = Batching()
"""The quickest way, which is right for most models."""


def batches_of(prompts: Sequence[Sequence[int]], batching: Batching) -> list[list[int]]:
    """Places of the prompts that go together, in the order of the first."""
    if batching.padded:
        return [list(range(len(prompts)))]
    of_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        of_length.setdefault(len(prompt), []).append(place)
    return list(of_length.values())


def filled_up(
    model: Any, prompts: Sequence[Sequence[int]], batching: Batching, pad_id: int
) -> tuple[Tensor, Tensor]:
    """The tokens of a batch of prompts as rows of one width, [P, W], on the model's device, and a
    mask that is 0 where they are filled up."""
    width = max(2 if batching.padded else 1, *map(len, prompts))
    device = model.get_input_embeddings().weight.device
    ids = torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


def cache_argument(model: Any) -> str:
    """What a causal LM takes its cache by: `cache` since transformers 5.24, which warns of the name
    before."""
    known = signature(model.prepare_inputs_for_generation).parameters
    return "cache" if "cache" in known else "past_key_values"
