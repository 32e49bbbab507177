"""Several answers to each of some prompts while they grow, a token at a time."""

from typing import Any

import torch
from torch import Tensor

from fastslow.sampling.batching import cache_argument, cache_of, similar
from fastslow.sampling.shared_prompts import NAME, SharedPrompts
from fastslow.scoring.attention import attending

READ_TOGETHER = 2048
"""Tokens of the prompts that are read in one pass, what fills them up among them."""


class Decoding:
    """Answers to prompts that a model has read; the model must stay set to their policy.

    Args:
        model: a causal LM of transformers.
        ids: [P, W], prompts filled up on the left.
        mask: [P, W], 0 where they are.
        num_generations: answers to each prompt, one after another.

    Raises ValueError, TypeError or others for a model that cannot be answered with so; the probe
    finds out.
    """

    def __init__(self, model: Any, ids: Tensor, mask: Tensor, num_generations: int) -> None:
        self._model = model
        kept, logits = _read(model, ids, mask)
        self._cache = SharedPrompts(kept, mask, num_generations)
        self._positions = (mask.sum(1, keepdim=True) - 1).repeat_interleave(num_generations, 0)
        self.logits = logits.repeat_interleave(num_generations, 0)
        """Of the next token of every answer, [N, V], float32."""

    def step(self, tokens: Tensor) -> None:
        """Each answer has one more token, [N]."""
        self._positions = self._positions + 1
        with torch.no_grad(), attending(self._model, NAME):
            found = self._model(
                input_ids=tokens[:, None],
                position_ids=self._positions,
                logits_to_keep=1,
                use_cache=True,
                shared=self._cache,
                **{cache_argument(self._model): self._cache},
            )
        self.logits = found.logits[:, -1].float()

    def keep(self, rows: Tensor) -> None:
        """Keep the answers in some rows only."""
        self._cache.keep(rows)
        self._positions = self._positions[rows]


@torch.no_grad()
def _read(model: Any, ids: Tensor, mask: Tensor) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Keys and values of all prompts in each layer, and the logits of what follows, [P, V]."""
    lengths, caches, logits = mask.sum(1).tolist(), [], []
    passes = [(rows, lengths[rows[-1]]) for rows in similar(lengths, READ_TOGETHER)]
    for rows, width in passes:
        own = mask[rows, -width:]
        read = model(
            input_ids=ids[rows, -width:],
            attention_mask=own,
            position_ids=(own.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=1,
            use_cache=True,
        )
        caches.append(cache_of(read).layers)
        logits.append(read.logits[:, -1].float())
    layers = []
    for parts in zip(*caches, strict=True):
        keys, values = (
            _together([getattr(part, name, None) for part in parts], passes, mask.shape[1])
            for name in ("keys", "values")
        )
        layers.append((keys, values))
    order = torch.tensor([row for rows, _ in passes for row in rows], device=ids.device)
    return layers, torch.cat(logits)[order.argsort()]


def _together(states: list[Any], passes: list[tuple[list[int], int]], width: int) -> Tensor:
    """What one layer keeps of the prompts of all passes, [P, H, W, d], filled up on the left."""
    widths = [getattr(own, "shape", (0, 0, 0))[2] for own in states]
    if widths != [most for _, most in passes]:
        raise ValueError("a layer of the model does not keep keys and values of every token")
    count, (_, heads, _, size) = sum(len(rows) for rows, _ in passes), states[0].shape
    found: Tensor = states[0].new_zeros(count, heads, width, size)
    for own, (rows, most) in zip(states, passes, strict=True):
        found[rows, :, width - most :] = own
    return found
