"""Several answers to each of some prompts while they grow, a token at a time."""

from typing import Any

import torch
from torch import Tensor

from fastslow.sampling.batching import cache_argument
from fastslow.sampling.shared_prompts import NAME, SharedPrompts
from fastslow.scoring.attention import attending


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
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            read = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                logits_to_keep=1,
                use_cache=True,
            )
        self._cache = SharedPrompts(read.past_key_values, mask, num_generations)
        self._positions = positions[:, -1:].repeat_interleave(num_generations, 0)
        self.logits = read.logits[:, -1].float().repeat_interleave(num_generations, 0)
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
