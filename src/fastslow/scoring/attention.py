"""Attention of packed trees, one segment of the row at a time.

Transformers' models call it in place of their own attention while trees are scored, see
`attending_trees`; `pieces` are the segments of the row, `ragged` is the whole row in one call.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from fastslow.scoring.attention_segments import AttentionSegment
from fastslow.scoring.ragged import Ragged

NAME = "fastslow_trees"
SHORT = 384
"""Tokens of a segment up to which float32 is faster on a CPU; of 512 it is as fast as bfloat16."""


@contextmanager
def attending(model: Any, name: str) -> Iterator[None]:
    """Inside, the model's layers attend by the function that transformers knows by a name."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def attending_trees(model: Any) -> AbstractContextManager[None]:
    """Inside, the model's layers use `pieces=`, an argument of its forward pass, for attention."""
    return attending(model, NAME)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # The number of segments differs between batches.
def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    pieces: Sequence[AttentionSegment],
    ragged: Ragged | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The attention output of a layer, [1, N, H, d], without attention weights.

    Args:
        module: the layer, unused.
        query: [1, H, N, d], all trees after one another.
        key: [1, H or fewer, N, d].
        value: as `key`.
        attention_mask: None, as the segments define it.
        pieces: the segments, one call each, in order.
        ragged: the whole row in one call, used instead if there is a kernel.
        scaling: factor of the products of queries and keys; None is 1 / sqrt(d).
        softcap: Gemma-2's bound on these products.
    """
    if ragged is not None and softcap is None and ragged.takes(query):
        return ragged.attend(query, key, value, scaling), None
    lengths = [piece.length for piece in pieces]
    # split, because its gradient is one concatenation where slices would each fill a whole row.
    parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    before, found = (key, value), []
    for piece, (queries, keys, values) in zip(pieces, parts, strict=True):
        if piece.prompt:
            keys, values = (
                torch.cat([theirs[:, :, : piece.prompt], own], dim=2)
                for theirs, own in zip(before, (keys, values), strict=True)
            )
        else:
            before = keys, values
        found.append(_attend(queries, keys, values, piece, scaling, softcap))
    return torch.cat(found, dim=2).transpose(1, 2).contiguous(), None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    piece: AttentionSegment,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    """The attention output of the tokens of a segment, [1, H, T, d]."""
    if _is_slow(query):
        with torch.autocast(query.device.type, enabled=False):
            wide = query.float(), key.float(), value.float()
            return _attend(*wide, piece, scaling, softcap).to(query.dtype)
    if softcap is not None:
        return _capped(query, key, value, piece.mask(query), scaling, softcap)
    mask = None if piece.causal else piece.mask(query)
    fewer = query.shape[1] > key.shape[1]
    if fewer and mask is not None and query.device.type != "cpu":
        # Of a GPU's kernels only the slowest takes both fewer heads of keys and a mask.
        key, value = _one_a_head(query, key, value)
        fewer = False
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=piece.causal, scale=scaling, enable_gqa=fewer
    )


def _is_slow(query: Tensor) -> bool:
    """Whether a CPU takes longer than in float32, as on a short segment in bfloat16."""
    bfloat16 = query.dtype == torch.bfloat16
    return bfloat16 and query.device.type == "cpu" and query.shape[2] <= SHORT


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float | None,
    softcap: float,
) -> Tensor:
    """The same with Gemma-2's bound, which the fused kernels do not know."""
    key, value = _one_a_head(query, key, value)
    products = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    products = torch.tanh(products / softcap) * softcap + mask
    weights = products.softmax(-1, dtype=torch.float32).to(query.dtype)
    return weights @ value


def _one_a_head(query: Tensor, *states: Tensor) -> Iterator[Tensor]:
    """Keys and values repeated for every head of the queries that shares them."""
    for of_fewer in states:
        yield of_fewer.repeat_interleave(query.shape[1] // of_fewer.shape[1], dim=1)


AttentionInterface.register(NAME, tree_attention)
