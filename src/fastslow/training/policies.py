"""Scores pairs under any policy of a run: the reference and each trained module in turn."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fastslow.adapters import Modules
from fastslow.scoring import Layout, Scorer, Tree, TreeBatch, probe_layout, tree_batch


class Policies:
    """The policies that share one base.

    Args:
        modules: the LoRA modules; BASE names the bare model.
        bfloat16: compute in bfloat16; sums stay float32.
        max_length: longest prompt plus response, for the probe of the layout.
        pad_id: token that fills rows up.
    """

    def __init__(self, modules: Modules, *, bfloat16: bool, max_length: int, pad_id: int) -> None:
        self.modules = modules
        self.pad_id = pad_id
        self._bfloat16 = bfloat16
        self._device = modules.causal_lm.get_input_embeddings().weight.device
        with self._precision():
            self.layout: Layout = probe_layout(modules.causal_lm, max_length=max_length)
        self._scorer = Scorer(modules.causal_lm, self.layout)

    def batch(self, trees: list[Tree]) -> TreeBatch:
        """The trees as one batch on the model's device."""
        return tree_batch(trees, pad_id=self.pad_id).to(self._device)

    def score(self, name: str, batch: TreeBatch, *, learning: bool = False) -> Tensor:
        """Summed log-probs of every response under the named policy, [N], nats, float32.

        Gradients reach the module only with `learning`.
        """
        with (
            self.modules.using(name, learning=learning),
            torch.set_grad_enabled(learning),
            self._precision(),
        ):
            return self._scorer.score(batch)

    def sampling(self, name: str) -> AbstractContextManager[Any]:
        """Inside, the causal LM answers as the named policy."""
        return self.modules.using(name)

    def _precision(self) -> AbstractContextManager[Any]:
        # Opened anew for every pass: its cache of weights cast without gradients must not outlive
        # a pass that needs none.
        if not self._bfloat16:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)
