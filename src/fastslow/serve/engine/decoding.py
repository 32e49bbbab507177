"""Batched decoding, one token per step, with the same answers as if each were decoded alone.

Rows that started together under one adapter share a cache; those that end leave it. Every row has
its own random generator, so that its seed alone decides its answer, whatever runs beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastslow.sampling.batching import cache_argument, cache_of


@dataclass(slots=True)
class Row:
    """One answer while it is decoded."""

    prompt: Sequence[int]
    generator: torch.Generator
    temperature: float
    top_p: float
    tell: Callable[[int, float], bool]
    """Gets each token and its log-prob; returns whether the answer continues."""
    tokens: list[int] = field(default_factory=list)


class Group:
    """Rows that share a cache; their adapter must be active during every call.

    Args:
        model: a causal LM of transformers with modules on it.
        rows: what is decoded; their prompts are prefilled here, in the constructor.
        pad_id: pads shorter prompts on the left.
    """

    def __init__(self, model: Any, rows: Sequence[Row], *, pad_id: int) -> None:
        self._model, self.rows = model, list(rows)
        self._device = model.get_input_embeddings().weight.device
        width = max(len(row.prompt) for row in rows)
        short = [width - len(row.prompt) for row in rows]
        ids = [
            [pad_id] * missing + list(row.prompt) for row, missing in zip(rows, short, strict=True)
        ]
        self._mask = torch.tensor([[0] * n + [1] * (width - n) for n in short], device=self._device)
        self._cache: Any = None
        self._cache_argument = cache_argument(model.get_base_model())
        self._next(torch.tensor(ids, device=self._device))

    def step(self) -> None:
        """Decode one more token for every row."""
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self._device)
        self._mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)
        self._next(ids)

    @torch.no_grad()
    def _next(self, ids: Tensor) -> None:
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_argument: self._cache},
        )
        self._cache = cache_of(out)
        logps = out.logits[:, -1].float().log_softmax(-1)
        unfinished = []
        for place, row in enumerate(self.rows):
            token = choose(logps[place], row)
            row.tokens.append(token)
            if row.tell(token, float(logps[place, token])):
                unfinished.append(place)
        self._keep(unfinished)

    def _keep(self, places: list[int]) -> None:
        """Keep only the rows at these places."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        if places:
            kept = torch.tensor(places, device=self._device)
            self._mask = self._mask[kept]
            self._cache.batch_select_indices(kept)


def choose(logps: Tensor, row: Row) -> int:
    """The next token of a row: sampled at its temperature from its nucleus, or the likeliest."""
    if row.temperature == 0:
        return int(logps.argmax())
    shares = (logps / row.temperature).softmax(-1)
    if row.top_p < 1:
        ordered, order = shares.sort(descending=True, stable=True)
        # The first token that passes top_p is the last to be kept.
        ordered[ordered.cumsum(-1) - ordered >= row.top_p] = 0
        shares = torch.zeros_like(shares).scatter(0, order, ordered)
    # Sampled on the CPU, where a generator gives the same numbers on every machine.
    return int(torch.multinomial(shares.cpu(), 1, generator=row.generator))
