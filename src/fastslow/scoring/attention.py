"""Attention of packed trees, piece by piece: what no token may see is never computed.

Transformers' models call it in place of their own attention while trees are scored, see
`attending_trees`. Each tree's prompt with its first response is one causal piece; every further
response attends to the prompt and itself.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from fastslow.scoring.encode import Tree

NAME = "fastslow_trees"


@contextmanager
def attending_trees(model: Any) -> Iterator[None]:
    """Inside, the model's layers attend as `trees=`, given to its forward pass, says."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.compiler.disable  # How many pieces there are differs from batch to batch.
def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    trees: Sequence[Tree],
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What a layer of transformers makes of its queries, [1, N, H, d], and no weights.

    Args:
        module: the layer, of which nothing is needed.
        query: [1, H, N, d], all trees after one another.
        key: [1, H or fewer, N, d].
        value: as `key`.
        attention_mask: None, as the trees say it all.
        trees: whose tokens these are, in order.
        scaling: what products of queries and keys are multiplied by; None is 1 / sqrt(d).
        softcap: Gemma-2's bound on these products.
    """
    lengths = [length for tree in trees for length in _piece_lengths(tree)]
    # split, because its gradient is one concatenation where slices would each fill a whole row.
    pieces = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    found = []
    for tree in trees:
        queries, keys, values = next(pieces)
        found.append(_attend(queries, keys, values, None, scaling, softcap))
        prompt = len(tree.prompt)
        for _ in tree.responses[1:]:
            own, own_keys, own_values = next(pieces)
            seen = torch.cat([keys[:, :, :prompt], own_keys], dim=2)
            said = torch.cat([values[:, :, :prompt], own_values], dim=2)
            found.append(_attend(own, seen, said, prompt, scaling, softcap))
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


def _piece_lengths(tree: Tree) -> Iterator[int]:
    yield len(tree.prompt) + sum(map(len, tree.responses[:1]))
    yield from map(len, tree.responses[1:])


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prompt: int | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """Causal attention, [1, H, T, d], of queries that come after `prompt` keys; None: all of them
    have theirs."""
    if softcap is not None:
        return _capped(query, key, value, prompt or 0, scaling, softcap)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if prompt is None else _mask(query, key, prompt),
        is_causal=prompt is None,
        scale=scaling,
        enable_gqa=query.shape[1] > key.shape[1],
    )


def _mask(query: Tensor, key: Tensor, prompt: int) -> Tensor:
    """0 where a token may look and the lowest number elsewhere, [T, prompt + T]."""
    mask = torch.full(
        (query.shape[2], key.shape[2]),
        torch.finfo(query.dtype).min,
        dtype=query.dtype,
        device=query.device,
    )
    return mask.triu_(prompt + 1)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, prompt: int, scaling: float | None, softcap: float
) -> Tensor:
    """The same with Gemma-2's bound, which the fused kernels do not know."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    products = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    products = torch.tanh(products / softcap) * softcap + _mask(query, key, prompt)
    weights = products.softmax(-1, dtype=torch.float32).to(query.dtype)
    return weights @ value


AttentionInterface.register(NAME, tree_attention)
