"""The tree batch: all prompts in one row, each followed by its responses.

Positions continue from the prompt's end in every response, and attention lets a response see its
prompt and itself only, so the row is exactly its conversations at the cost of one prompt each, and
nothing is padded but the row's end.

    row      p0 p1 p2 a0 a1 a2 b0 b1 | q0 q1 c0 | pad
    position  0  1  2  3  4  5  3  4 |  0  1  2 |  0

This room is the only place that shifts, masks and sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fastslow.scoring.text.token_tree import Tree

ROUND_WIDTH = 64
"""Rows are filled up to a multiple of this many tokens."""


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """R trees in a row of T tokens, with S scored response tokens among them and N responses, in
    order."""

    input_ids: Tensor
    """[1, T], int64."""
    position_ids: Tensor
    """[1, T], int64."""
    predictors: Tensor
    """[S], int64: index into the row of the token that predicts each target."""
    targets: Tensor
    """[S], int64: the scored tokens, response after response."""
    lengths: Tensor
    """[N], int64: scored tokens of each response, tree after tree."""
    ends: Tensor
    """[N], int64: index into the row of the last token of each response."""
    trees: tuple[Tree, ...]
    padding: int
    """Tokens at the end of the row that belong to no tree."""

    def to(self, device: torch.device) -> "TreeBatch":
        """The same batch with its tensors on a device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name in self.__slots__
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **moved)

    @property
    def attended(self) -> tuple[Tree, ...]:
        """The trees in the row; padding is a prompt without a response."""
        filling = (Tree((0,) * self.padding, ()),) if self.padding else ()
        return (*self.trees, *filling)


def tree_batch(trees: Sequence[Tree], *, pad_id: int) -> TreeBatch:
    """The trees as one row. Raises ValueError on an empty prompt or response."""
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    ends: list[int] = []
    for tree in trees:
        if not tree.prompt or not all(tree.num_scored):
            raise ValueError("a tree needs at least one prompt token and one scored a response")
        ids += tree.prompt
        positions += range(len(tree.prompt))
        before = len(ids) - 1
        for response, places in zip(tree.responses, tree.scored_places(), strict=True):
            first = len(ids)
            predictors += [first + place - 1 if place else before for place in places]
            targets += [response[place] for place in places]
            lengths.append(len(places))
            ends.append(first + len(response) - 1)
            ids += response
            positions += range(len(tree.prompt), len(tree.prompt) + len(response))
    padding = round_up(len(ids), ROUND_WIDTH) - len(ids)
    return TreeBatch(
        input_ids=torch.tensor([ids + [pad_id] * padding]),
        position_ids=torch.tensor([positions + [0] * padding]),
        predictors=torch.tensor(predictors, dtype=torch.int64),
        targets=torch.tensor(targets, dtype=torch.int64),
        lengths=torch.tensor(lengths, dtype=torch.int64),
        ends=torch.tensor(ends, dtype=torch.int64),
        trees=tuple(trees),
        padding=padding,
    )


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple that is at least count."""
    return -(-count // multiple) * multiple
