"""The tree batch: one row per prompt, the prompt once, then each of its responses.

Positions continue from the prompt's end in every response, and a mask lets a response see the
prompt and itself only, so each row is exactly its k conversations at the cost of one prompt.

    row      p0 p1 p2 | a0 a1 a2 | b0 b1 | pad
    position  0  1  2 |  3  4  5 |  3  4 |  0
    segment   0  0  0 |  1  1  1 |  2  2 | -1

This room is the only place that shifts, masks and sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastslow.scoring.encode import Tree

PADDING = -1
PROMPT = 0
ROUND_WIDTH = 32
"""Rows are filled up to a multiple of this many tokens, so that batches share their shapes: kernels
and memory made for one shape serve again, which on a CPU is worth a quarter of the time."""


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """R rows of T tokens with S response tokens among them and N responses, in order."""

    input_ids: Tensor
    """[R, T], int64."""
    position_ids: Tensor
    """[R, T], int64."""
    segments: Tensor
    """[R, T], int64: PROMPT, 1..k for the responses, PADDING."""
    predictors: Tensor
    """[S], int64: index into the flattened [R * T] tokens of the one that predicts each target."""
    targets: Tensor
    """[S], int64: the response tokens, response after response."""
    lengths: Tensor
    """[N], int64: tokens of each response, row after row."""
    ends: Tensor
    """[N], int64: index, as of `predictors`, of the last token of each response."""
    trees: tuple[Tree, ...]

    def to(self, device: torch.device) -> "TreeBatch":
        """The same batch with its tensors on a device."""
        return TreeBatch(
            *(getattr(self, name).to(device) for name in self.__slots__ if name != "trees"),
            trees=self.trees,
        )

    def attention_mask(self, dtype: torch.dtype) -> Tensor:
        """What each token may attend to, [R, 1, T, T], as an additive mask: 0 or the lowest number.

        An additive mask, because some eager attentions misread a boolean one.
        """
        rows, length = self.input_ids.shape
        query, key = self.segments[:, :, None], self.segments[:, None, :]
        order = torch.arange(length, device=self.input_ids.device)
        visible = (order[:, None] >= order[None, :]) & ((key == query) | (key == PROMPT))
        # Padding sees itself: a row of the mask with nothing visible would give NaN.
        visible &= (query != PADDING) | (order[:, None] == order[None, :])
        mask = torch.zeros(rows, length, length, dtype=dtype, device=self.input_ids.device)
        return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def tree_batch(trees: Sequence[Tree], *, pad_id: int) -> TreeBatch:
    """The rows of some trees, padded to the longest. Raises ValueError on an empty response."""
    width = round_up(max(tree.num_tokens for tree in trees), ROUND_WIDTH)
    ids, positions, segments = [], [], []
    predictors: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    ends: list[int] = []
    for row, tree in enumerate(trees):
        if not tree.prompt or not all(tree.responses):
            raise ValueError("a tree needs at least one prompt token and one token a response")
        start = len(tree.prompt)
        row_ids, row_positions = list(tree.prompt), list(range(start))
        row_segments = [PROMPT] * start
        for number, response in enumerate(tree.responses, 1):
            first = row * width + len(row_ids)
            predictors += [row * width + start - 1, *range(first, first + len(response) - 1)]
            targets += response
            lengths.append(len(response))
            ends.append(first + len(response) - 1)
            row_ids += response
            row_positions += range(start, start + len(response))
            row_segments += [number] * len(response)
        padding = width - len(row_ids)
        ids.append(row_ids + [pad_id] * padding)
        positions.append(row_positions + [0] * padding)
        segments.append(row_segments + [PADDING] * padding)
    return TreeBatch(
        input_ids=torch.tensor(ids),
        position_ids=torch.tensor(positions),
        segments=torch.tensor(segments),
        predictors=torch.tensor(predictors),
        targets=torch.tensor(targets),
        lengths=torch.tensor(lengths),
        ends=torch.tensor(ends),
        trees=tuple(trees),
    )


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple that is at least count."""
    return -(-count // multiple) * multiple
