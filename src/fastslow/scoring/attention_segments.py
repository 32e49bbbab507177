"""Splits a row of trees into attention calls, so that few masked scores are computed.

On a CPU each tree's prompt with its first response is one causal segment, and every further
response is one that sees the prompt and itself. On a GPU a call costs more than masked scores, so
trees are grouped.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fastslow.scoring.text.token_tree import Tree


class AttentionSegment:
    """Consecutive tokens that attend in one call.

    Args:
        length: number of tokens.
        prompt: tokens at the start of the last segment without a prompt that these also see.
        trees: the trees of these tokens, if attention is not simply causal.
    """

    def __init__(self, length: int, *, prompt: int = 0, trees: Sequence[Tree] = ()) -> None:
        self.length = length
        self.prompt = prompt
        self._trees = trees
        self._mask: Tensor | None = None

    @property
    def causal(self) -> bool:
        """Whether each token sees all before it, which needs no mask."""
        return not self.prompt and not self._trees

    def mask(self, like: Tensor) -> Tensor:
        """0 where a token may look and the lowest number elsewhere, [length, prompt + length], on
        the device and in the precision of another tensor.

        Made once, as all layers of a pass ask for the same.
        """
        if self._mask is None or self._mask.dtype != like.dtype:
            hidden = self._hidden(like.device)
            lowest = torch.finfo(like.dtype).min
            self._mask = torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(hidden, lowest)
        return self._mask

    def _hidden(self, device: torch.device) -> Tensor:
        later = torch.ones(
            self.length, self.prompt + self.length, dtype=torch.bool, device=device
        ).triu_(self.prompt + 1)
        if not self._trees:
            return later
        tree, response = _places(self._trees).to(device)
        ours = tree[:, None] == tree
        seen: Tensor = ours & ((response == 0) | (response[:, None] == response))
        return later | ~seen


def cut(trees: Sequence[Tree], *, together: int) -> list[AttentionSegment]:
    """The segments of a row.

    Args:
        trees: in their order.
        together: trees of up to this many tokens in total form one segment; 0 splits all trees.
    """
    return [piece for group in _groups(trees, together) for piece in _pieces(group, together)]


def _groups(trees: Sequence[Tree], together: int) -> Iterator[list[Tree]]:
    group: list[Tree] = []
    for tree in trees:
        if group and sum(own.num_tokens for own in group) + tree.num_tokens > together:
            yield group
            group = []
        group.append(tree)
    if group:
        yield group


def _pieces(group: list[Tree], together: int) -> Iterator[AttentionSegment]:
    tree, *others = group
    if others or (len(tree.responses) > 1 and tree.num_tokens <= together):
        yield AttentionSegment(sum(tree.num_tokens for tree in group), trees=group)
        return
    yield AttentionSegment(len(tree.prompt) + sum(map(len, tree.responses[:1])))
    for response in tree.responses[1:]:
        yield AttentionSegment(len(response), prompt=len(tree.prompt))


def _places(trees: Sequence[Tree]) -> Tensor:
    """Of each of T tokens its tree and its response, counted from one, [2, T]; 0 is the prompt."""
    parts = [
        (number, place, len(part))
        for number, tree in enumerate(trees)
        for place, part in enumerate((tree.prompt, *tree.responses))
    ]
    *places, lengths = torch.tensor(parts).T
    # The size is said, as fake lengths (`adapters.fake_model`) do not add up to one.
    count = sum(tree.num_tokens for tree in trees)
    return torch.stack(places).repeat_interleave(lengths, dim=1, output_size=count)
