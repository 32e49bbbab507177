"""The layers below the lowest module, which make the same of a batch under every policy."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from fastslow.scoring.layers import blocks_of, wrap_layer
from fastslow.scoring.tree import TreeBatch


class SharedLayers:
    """Layers that a batch passes once: what came out of them is kept until another batch comes.

    There are none where every layer carries a module.

    Args:
        model: the causal LM.
        differing: its parts that differ between policies.
    """

    def __init__(self, model: Any, differing: Collection[nn.Module]) -> None:
        self._batch: TreeBatch | None = None
        self._passing = False
        self._known = False
        self._made: Any = None
        for layer in _below(model, set(differing)):
            wrap_layer(layer, self._forward)

    @contextmanager
    def passing(self, batch: TreeBatch) -> Iterator[None]:
        """Inside, the model is passed with a batch, perhaps the one before."""
        self._known = self._batch is batch
        self._batch, self._passing = None, True  # Not known after a pass that failed.
        try:
            yield
            self._batch = batch
        finally:
            self._passing = False

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _forward(
        self, layer: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        if not self._passing:
            return forward(*args, **kwargs)
        if not self._known:
            self._made = forward(*args, **kwargs)
        # Of the last layer; those before it may return the same, as nothing is made of that.
        return self._made


def _below(model: Any, differing: set[nn.Module]) -> list[nn.Module]:
    layers = blocks_of(model)
    if not differing <= {part for layer in layers for part in layer.modules()}:
        return []  # Embeddings may differ, and then everything above them does.
    return list(takewhile(lambda layer: differing.isdisjoint(layer.modules()), layers))
