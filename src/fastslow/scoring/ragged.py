"""A row of trees in one call of CUDA's variable-length flash attention.

The row is split as on a CPU: a tree's prompt with its first response is one sequence, every further
response another, with its keys appended to those of its prompt. The kernel's causal mask is aligned
to the end of the keys, so each token sees what it may, and no masked score is computed. Kernels
with a mask would compute them, and cuDNN's also prepare again for every shape, which takes longer
than the call.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from fastslow.scoring.attention_segments import cut
from fastslow.scoring.text.token_tree import Tree

KERNEL = torch.ops.aten._flash_attention_forward
"""Its gradient is known to torch, and heads of keys may be fewer."""
WIDEST = 256
"""Numbers of a head that the kernel takes at most."""
AMPERE = (8, 0)
"""The first of the devices that have it."""


class Ragged:
    """Trees after one another, in this way.

    Where its tensors are is settled by the first call, as all layers of a pass ask for the same.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._trees = trees
        self._places: tuple[Tensor, Tensor, Tensor] | None = None
        self._longest = (0, 0)

    def takes(self, query: Tensor) -> bool:
        """Whether the kernel takes such queries, [1, H, N, d]."""
        width, device = query.shape[-1], query.device
        return (
            query.dtype in (torch.float16, torch.bfloat16)
            and width <= WIDEST
            and width % 8 == 0
            and device.type == "cuda"
            and _has_kernel(device)
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """The attention output of a layer, [1, N, H, d], as `tree_attention`."""
        if self._places is None:
            self._place(query.device)
        assert self._places is not None
        gathered, *ends = self._places
        queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
        found: Tensor = KERNEL(
            queries,
            keys.index_select(0, gathered),
            values.index_select(0, gathered),
            *ends,
            *self._longest,
            0.0,  # dropout
            True,  # causal
            False,
            scale=scaling,
        )[0]
        return found[None]

    def _place(self, device: torch.device) -> None:
        """The gathered keys, and where the queries and keys of each sequence end."""
        pieces, gathered, of_prompt, begin = cut(self._trees, together=0), [], 0, 0
        for piece in pieces:
            if not piece.prompt:
                of_prompt = begin
            gathered += [*range(of_prompt, of_prompt + piece.prompt)]
            gathered += [*range(begin, begin + piece.length)]
            begin += piece.length
        queries = [piece.length for piece in pieces]
        keys = [piece.prompt + piece.length for piece in pieces]
        self._longest = max(queries), max(keys)
        ends_of_queries, ends_of_keys = (
            torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
            for lengths in (queries, keys)
        )
        self._places = torch.tensor(gathered, device=device), ends_of_queries, ends_of_keys


@lru_cache(maxsize=8)
def _has_kernel(device: torch.device) -> bool:
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= AMPERE
