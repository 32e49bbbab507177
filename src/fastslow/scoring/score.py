"""Token trees to summed log-probs, with logits only where a response token is predicted.

`Scorer` is the one path for training, evaluation and every objective. It scores whole trees where
the architecture takes positions and an attention of ours, which a probe on the loaded model
decides, and each response alone through the model's own forward pass where it does not.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastslow.scoring.attention import attending_trees
from fastslow.scoring.attention_segments import AttentionSegment, cut
from fastslow.scoring.divergence import chunked_kl, prediction_kl
from fastslow.scoring.layers import backbone_of
from fastslow.scoring.lm_head import Head, chunked_logps, token_logps
from fastslow.scoring.ragged import Ragged
from fastslow.scoring.shared_layers import SharedLayers
from fastslow.scoring.tree import TreeBatch

STATISTICS = ("entropy", "collision")
"""Statistics of the predictions besides the log-probs of the targets."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What a policy makes of N responses."""

    sums: Tensor
    """Sum of log pi(token) over each response's scored tokens, [N], nats, float32 (or float64)."""
    tokens: Tensor
    """The summands, log pi of each scored token, [S], response after response."""
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
    """Means over each response's tokens, [N], without gradient. `entropy`: of the prediction, as a
    share of the vocabulary's log; `collision`: log sum_v pi(v)^2, nats."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model is scored, and why where it is not the usual way."""

    trees: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much one call computes."""

    together: int
    """Tokens up to which trees attend in one call."""
    columns: int
    """Tokens of the vocabulary whose logits are made at a time."""
    rows: int = 2048
    """Response tokens whose logits are made at a time."""
    ragged: bool = False
    """Whether all trees attend in one call where there is a kernel for that, see `ragged`."""


ON_CPU = Sizes(together=0, columns=2048)
"""Nothing is computed that a mask would throw away, and 16 MiB of logits stay in the cache."""
ON_GPU = Sizes(together=2048, columns=32_768, ragged=True)
"""Calls that take longer than their launch."""


def _suitable(model: Any) -> Sizes:
    sizes = ON_CPU if model.device.type == "cpu" else ON_GPU
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        # No kernel supports softcapping, so masked scores would be kept in memory.
        return replace(sizes, together=0)
    return sizes


class Scorer:
    """Scores responses under the active adapter of a transformers causal LM.

    Args:
        model: the causal LM itself, with or without adapters injected in its layers.
        layout: from `probe_layout`; None takes trees.
        differing: parts of the model that differ between policies; what lies below all of them is
            computed once for passes of the same batch after one another. Empty: nothing is kept.
        sizes: None takes what suits the model's device. They do not change what is computed.
    """

    def __init__(
        self,
        model: Any,
        layout: Layout | None = None,
        *,
        differing: Collection[nn.Module] = (),
        sizes: Sizes | None = None,
    ) -> None:
        self.model = model
        self.layout = layout or Layout(trees=True)
        self._sizes = sizes or _suitable(model)
        self._shared_layers = SharedLayers(model, differing) if differing else None
        self._attended: tuple[TreeBatch, dict[str, Any]] | None = None
        self._backbone = backbone_of(model)
        self._head = model.get_output_embeddings()
        self._config = model.config.get_text_config()

    def score(self, batch: TreeBatch) -> Tensor:
        """Sum of log pi(token) over each response's tokens, [N], nats, float32 (or float64)."""
        return self.measure(batch).sums

    def measure(
        self, batch: TreeBatch, statistics: Sequence[str] = (), *, temperature: float = 1.0
    ) -> Scores:
        """The sums, and some of STATISTICS, of what is said at a temperature.

        Answers that were sampled at a temperature have the log-probs of that temperature.
        """
        if not self.layout.trees:
            return self._measure_each_alone(batch, statistics, temperature)
        # index_select, because its gradient is deterministic where two tokens share a predictor.
        hidden = self._hidden(batch).index_select(0, batch.predictors)
        logps, found = self._logps(hidden, batch.targets, statistics, temperature)
        lengths = [count for tree in batch.trees for count in tree.num_scored]
        sums = _sum_by_response(logps, lengths)
        means = {
            name: _sum_by_response(values, lengths) / batch.lengths
            for name, values in found.items()
        }
        return Scores(sums, logps, means)

    def predictions(self, batch: TreeBatch) -> Tensor:
        """What `kl` needs of a policy: where each response token is predicted the last hidden
        states, [S, d], or the logits, [S, V], where responses are scored one by one."""
        if self.layout.trees:
            return self._hidden(batch).index_select(0, batch.predictors)
        device = batch.input_ids.device
        logits = [
            self._logits_alone(tree.prompt, response, device)[places]
            for tree in batch.trees
            for response, places in zip(tree.responses, tree.scored_places(), strict=True)
        ]
        return torch.cat(logits)

    def kl(self, batch: TreeBatch, teacher: Tensor, student: Tensor) -> Tensor:
        """KL(teacher || student) of the predictions, summed over each response, [N], nats.

        Each is what `predictions` gave of the batch under a policy. Gradients reach the student's.
        """
        if self.layout.trees:
            head = Head(self._head, partial(self._after_head, temperature=1.0))
            sizes: dict[str, int] = {"rows": self._sizes.rows, "columns": self._sizes.columns}
            kl = chunked_kl(head, teacher, student, **sizes)
        else:
            kl = prediction_kl(teacher, student)
        return _sum_by_response(kl, [count for tree in batch.trees for count in tree.num_scored])

    def states(self, batch: TreeBatch, where: Literal["predictors", "ends"]) -> Tensor:
        """Last hidden states where each response token is predicted, [S, d], or of each response's
        last token, [N, d]; float32 (or float64)."""
        if self.layout.trees:
            states = self._hidden(batch).index_select(0, getattr(batch, where))
        else:
            device = batch.input_ids.device
            states = torch.cat(
                [
                    self._hidden_alone((*tree.prompt, *response), device)[len(tree.prompt) - 1 :][
                        [-1] if where == "ends" else places
                    ]
                    for tree in batch.trees
                    for response, places in zip(tree.responses, tree.scored_places(), strict=True)
                ]
            )
        return states if states.dtype == torch.float64 else states.float()

    def embed(self, batch: TreeBatch) -> Tensor:
        """Means over each row's prompt of the token embeddings and of the last hidden states.

        [R, 2 d], float32: what the prompt's words are, and what the model makes of them.
        """
        if not self.layout.trees:
            device = batch.input_ids.device
            return torch.stack([self._embed_alone(tree.prompt, device) for tree in batch.trees])
        both = (self.model.get_input_embeddings()(batch.input_ids[0]), self._hidden(batch))
        sizes = [tree.num_tokens for tree in batch.attended]
        rows = zip(batch.trees, *(states.float().split(sizes) for states in both), strict=False)
        means = [
            [states[: len(tree.prompt)].mean(0) for states in of_tree] for tree, *of_tree in rows
        ]
        return torch.stack([torch.cat(of_tree) for of_tree in means])

    def _embed_alone(self, prompt: tuple[int, ...], device: torch.device) -> Tensor:
        words = self.model.get_input_embeddings()(torch.tensor(prompt, device=device))
        both = (words, self._hidden_alone(prompt, device))
        return torch.cat([states.float().mean(0) for states in both])

    def _hidden_alone(self, tokens: tuple[int, ...], device: torch.device) -> Tensor:
        """Last hidden states of one sequence, [T, d]."""
        ids = torch.tensor([tokens], device=device)
        hidden: Tensor = self._backbone(input_ids=ids, use_cache=False).last_hidden_state[0]
        return hidden

    def _hidden(self, batch: TreeBatch) -> Tensor:
        """Last hidden states of the row, [T, d]."""
        sharing = self._shared_layers.passing(batch) if self._shared_layers else nullcontext()
        with self.attending(), sharing:
            hidden: Tensor = self._backbone(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                use_cache=False,
                **self._calls(batch),
            ).last_hidden_state[0]
        return hidden

    def _calls(self, batch: TreeBatch) -> dict[str, list[AttentionSegment] | Ragged]:
        """How the row attends: settled once for passes of the same batch after one another."""
        if self._attended is None or self._attended[0] is not batch:
            calls: dict[str, Any] = {"pieces": cut(batch.attended, together=self._sizes.together)}
            if self._sizes.ragged:
                calls["ragged"] = Ragged(batch.attended)
            self._attended = batch, calls
        return self._attended[1]

    def attending(self) -> AbstractContextManager[None]:
        """Inside, the layers attend as when batches are scored."""
        return attending_trees(self.model) if self.layout.trees else nullcontext()

    def _logps(
        self, hidden: Tensor, targets: Tensor, statistics: Sequence[str], temperature: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-prob of each target, and statistics of each prediction, [S] each."""
        head = Head(self._head, partial(self._after_head, temperature=temperature))
        rows, columns = self._sizes.rows, self._sizes.columns
        found: dict[str, list[Tensor]] = {name: [] for name in statistics}
        if found:
            with torch.no_grad():
                for part in hidden.split(max(1, rows * columns // self._head.weight.shape[0])):
                    for name, values in _statistics(head.logits(part), statistics).items():
                        found[name].append(values)
        logps = chunked_logps(head, hidden, targets, rows=rows, columns=columns)
        return logps, {name: torch.cat(values) for name, values in found.items()}

    def _after_head(self, logits: Tensor, temperature: float) -> Tensor:
        """What the model's configuration makes of its logits; the probe checks it."""
        if (scale := getattr(self._config, "logit_scale", None)) is not None:
            logits = logits * scale
        if (scaling := getattr(self._config, "logits_scaling", None)) is not None:
            logits = logits / scaling
        if (cap := getattr(self._config, "final_logit_softcapping", None)) is not None:
            logits = torch.tanh(logits / cap) * cap
        return _at(logits, temperature)

    def _measure_each_alone(
        self, batch: TreeBatch, statistics: Sequence[str], temperature: float
    ) -> Scores:
        device = batch.input_ids.device
        tokens: list[Tensor] = []
        found: dict[str, list[Tensor]] = {name: [] for name in statistics}
        for tree in batch.trees:
            for response, places in zip(tree.responses, tree.scored_places(), strict=True):
                logits = self._logits_alone(tree.prompt, response, device)[places]
                logits = _at(logits, temperature)
                targets = torch.tensor(response, device=device)[places]
                tokens.append(token_logps(logits, targets))
                for name, values in _statistics(logits.detach(), statistics).items():
                    found[name].append(values.mean())
        return Scores(
            torch.stack([own.sum() for own in tokens]),
            torch.cat(tokens),
            {name: torch.stack(values) for name, values in found.items()},
        )

    def score_alone(
        self, prompt: tuple[int, ...], response: tuple[int, ...], *, device: torch.device
    ) -> Tensor:
        """The same sum for one response through the model's own forward pass, a scalar."""
        logits = self._logits_alone(prompt, response, device)
        return token_logps(logits, torch.tensor(response, device=device)).sum()

    def _logits_alone(
        self, prompt: tuple[int, ...], response: tuple[int, ...], device: torch.device
    ) -> Tensor:
        ids = torch.tensor([[*prompt, *response]], device=device)
        logits: Tensor = self.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        return logits


def _at(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature


def _statistics(logits: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Statistics of predictions, [S] each, of logits [S, V]."""
    if not names:
        return {}
    wide = logits if logits.dtype == torch.float64 else logits.float()
    logps = wide.log_softmax(-1)
    measures = {
        # What is never said counts nothing: 0 times infinity.
        "entropy": lambda: (
            -torch.where(logps.isneginf(), 0.0, logps.exp() * logps).sum(-1)
            / math.log(logits.shape[-1])
        ),
        "collision": lambda: (2 * logps).logsumexp(-1),
    }
    return {name: measures[name]() for name in names}


def _sum_by_response(logps: Tensor, lengths: list[int]) -> Tensor:
    """Sums of consecutive runs of the given lengths, [N]. Padded, so that no sum is reordered."""
    parts = logps.split(lengths)
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True).sum(-1)
