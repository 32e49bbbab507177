"""Keys and values while several answers to each prompt grow: a prompt's once for all its answers,
those of the answers in a buffer that has room for the next token.

Reading keys and values takes most of a decoding step. A row for each answer with its prompt in it,
one token longer each step, reads a prompt once an answer, and is copied for every token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache

NAME = "fastslow_shared_prompts"
ROOM = 32
"""Tokens of each answer for which there is room at first; it doubles when it is used up."""


class _Grid:
    """Answers as P prompts by A answers each; where a prompt has fewer, another's fill it up.

    Args:
        of_prompt: for each of N answers the row of its prompt.
        device: of what is put into the grid.
    """

    def __init__(self, of_prompt: Sequence[int], device: torch.device) -> None:
        answers: dict[int, list[int]] = {}
        for row, prompt in enumerate(of_prompt):
            answers.setdefault(prompt, []).append(row)
        self._answers = max(map(len, answers.values()))
        rows = [own + own[:1] * (self._answers - len(own)) for own in answers.values()]
        places = [
            prompt * self._answers + answers[prompt].index(row)
            for row, prompt in enumerate(of_prompt)
        ]
        self._in_order = places == [*range(len(rows) * self._answers)]
        self._rows = torch.tensor(rows, device=device).flatten()
        self._places = torch.tensor(places, device=device)

    def by_prompt(self, values: Tensor) -> Tensor:
        """[P, H, A G, d] of what each answer has, [N, H, G, d]."""
        spread = values if self._in_order else values[self._rows]
        spread = spread.view(-1, self._answers, *spread.shape[1:]).transpose(1, 2)
        return spread.flatten(2, 3)

    def by_answer(self, values: Tensor) -> Tensor:
        """The reverse of `by_prompt`."""
        prompts, heads, _, size = values.shape
        found = values.view(prompts, heads, self._answers, -1, size).transpose(1, 2).flatten(0, 1)
        return found if self._in_order else found[self._places]


@dataclass(slots=True)
class _Layer:
    """What one layer keeps, [P, H, W, d] of P prompts and [N, H, room, d] of N answers."""

    prompt_keys: Tensor
    prompt_values: Tensor
    keys: Tensor
    values: Tensor


class SharedPrompts(DynamicCache):
    """The cache of a model while it answers prompts that it has read.

    Args:
        layers: keys and values of the prompts in each layer, [P, H, W, d].
        mask: [P, W], 0 where a prompt is filled up.
        num_generations: answers to each prompt, one after another.
    """

    def __init__(
        self, layers: Sequence[tuple[Tensor, Tensor]], mask: Tensor, num_generations: int
    ) -> None:
        super().__init__()
        self._mask, self._length = mask, 0
        self._of_prompt = [row for row in range(len(mask)) for _ in range(num_generations)]
        self._kept = [_with_room(*layer, len(self._of_prompt)) for layer in layers]
        self._arrange()

    def _arrange(self) -> None:
        self._grid = _Grid(self._of_prompt, self._mask.device)
        filling = ~self._mask.bool()[:, None, None]
        zeros = torch.zeros(filling.shape, device=filling.device)
        self._bias = zeros.masked_fill_(filling, float("-inf")) if filling.any() else None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of a row, those that fill it up among them."""
        return self._mask.shape[1] + self._length

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep the next token of every answer, [N, H, 1, d]; keys and values of the answers."""
        layer = self._kept[layer_idx]
        self._length += layer_idx == 0
        if self._length > layer.keys.shape[2]:
            layer.keys, layer.values = _doubled(layer.keys), _doubled(layer.values)
        layer.keys[:, :, self._length - 1] = key_states[:, :, 0]
        layer.values[:, :, self._length - 1] = value_states[:, :, 0]
        return layer.keys[:, :, : self._length], layer.values[:, :, : self._length]

    def keep(self, rows: Tensor) -> None:
        """Keep the answers in some rows, and the prompts that these answer."""
        of_prompt = [self._of_prompt[row] for row in rows.tolist()]
        prompts = sorted(set(of_prompt))
        self._of_prompt = [prompts.index(prompt) for prompt in of_prompt]
        for layer in self._kept:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        if len(prompts) < len(self._mask):
            self._mask = self._mask[prompts]
            for layer in self._kept:
                layer.prompt_keys = layer.prompt_keys[prompts]
                layer.prompt_values = layer.prompt_values[prompts]
        self._arrange()

    def attend(
        self,
        layer_idx: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        softcap: float | None,
    ) -> Tensor:
        """What the last token of every answer sees, [N, H, d], in its prompt and in its answer."""
        layer, grid = self._kept[layer_idx], self._grid
        size = query.shape[-1]
        own = query * (size**-0.5 if scaling is None else scaling)
        own = own.view(len(query), key.shape[1], -1, size)
        in_prompt = grid.by_prompt(own) @ layer.prompt_keys.transpose(2, 3)
        # Not turned around: keys, of which there is only a part of the room, would be copied.
        in_answer = (key @ own.transpose(2, 3)).transpose(2, 3)
        if softcap is not None:
            in_prompt, in_answer = (
                torch.tanh(products / softcap) * softcap for products in (in_prompt, in_answer)
            )
        if self._bias is not None:
            in_prompt = in_prompt + self._bias
        products = torch.cat([grid.by_answer(in_prompt), in_answer], dim=-1)
        weights = products.softmax(-1, dtype=torch.float32).to(query.dtype)
        of_prompt, of_answer = weights.split([self._mask.shape[1], self._length], dim=-1)
        found = grid.by_answer(grid.by_prompt(of_prompt) @ layer.prompt_values)
        found += of_answer @ value
        return found.flatten(1, 2)


def _with_room(prompt_keys: Tensor, prompt_values: Tensor, rows: int) -> _Layer:
    """A layer with room for the first tokens of so many answers."""
    keys, values = (
        states.new_empty(rows, states.shape[1], ROOM, states.shape[3])
        for states in (prompt_keys, prompt_values)
    )
    return _Layer(prompt_keys, prompt_values, keys, values)


def _doubled(states: Tensor) -> Tensor:
    return torch.cat([states, torch.empty_like(states)], dim=2)


def attend_shared(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    shared: SharedPrompts,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """A layer's attention output for one more token of each answer, [N, 1, H, d], without weights.

    Args:
        module: the layer, which knows its number.
        query: [N, H, 1, d].
        key: [N, H or fewer, T, d] of the T tokens of each answer, as `shared` gave them.
        value: as `key`.
        attention_mask: None, as all of prompt and answer is seen.
        shared: what is kept of the prompts.
        scaling: factor of the products of queries and keys; None is 1 / sqrt(d).
        softcap: Gemma-2's bound on these products.
    """
    found = shared.attend(module.layer_idx, query, key, value, scaling, softcap)
    return found[:, None], None


AttentionInterface.register(NAME, attend_shared)
