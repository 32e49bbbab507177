"""Scores pairs under any policy of a run: the reference and each trained module in turn."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastslow.adapters import BASE, Modules
from fastslow.errors import ConfigError
from fastslow.sampling import Batching, Completion, generate, probe_batching
from fastslow.scoring import (
    ActivationCheckpointing,
    Layout,
    Scorer,
    Scores,
    Tree,
    TreeBatch,
    probe_layout,
    tree_batch,
)
from fastslow.training.distributed.messages import Codec, list_of
from fastslow.training.distributed.processes import ProcessGroup

COMPLETION: Codec[Completion] = Codec(
    lambda own: [own.tokens, own.truncated], lambda sent: Completion(tuple(sent[0]), sent[1])
)
SEEDS_APART = 15_485_863
"""Between the seeds of two processes: no run counts its seeds up so far."""


PROMPTS_AT_ONCE = 48
"""Prompts that are answered in one call where nothing else is said; as many of them grow together
as the cache has room for, see `generate`."""
TOKENS_AT_ONCE = 8192
"""Most tokens of one forward pass in which many trees are scored."""


def answered(
    prompts: Sequence[tuple[int, ...]], answers: Sequence[Sequence[Completion]]
) -> list[Tree]:
    """Each prompt with its completions, to be scored."""
    return [
        Tree(prompt, tuple(completion.tokens for completion in given))
        for prompt, given in zip(prompts, answers, strict=True)
    ]


def in_passes(trees: Sequence[Tree]) -> list[list[Tree]]:
    """The trees in runs of at most TOKENS_AT_ONCE tokens, a single one however many it has."""
    runs: list[list[Tree]] = []
    taken = 0
    for tree in trees:
        taken += tree.num_tokens
        if not runs or taken > TOKENS_AT_ONCE:
            runs, taken = [*runs, []], tree.num_tokens
        runs[-1].append(tree)
    return runs


class Policies:
    """The policies that share one base.

    Args:
        modules: the LoRA modules; BASE names the bare model.
        bfloat16: compute in bfloat16; sums stay float32.
        max_length: longest prompt plus response, for the probe of the layout.
        pad_id: token that fills rows up.
        processes: those that train together; by default, those that there are.
        gradient_checkpointing: compute layers again for the backward pass.
        layout: how the model is scored; None is found out on the model.

    Raises ConfigError if the model does not support a sharded base.
    """

    def __init__(
        self,
        modules: Modules,
        *,
        bfloat16: bool,
        max_length: int,
        pad_id: int,
        processes: ProcessGroup | None = None,
        gradient_checkpointing: bool = False,
        layout: Layout | None = None,
    ) -> None:
        self.modules = modules
        self.pad_id = pad_id
        self.processes = processes or ProcessGroup()
        self.bfloat16 = bfloat16
        self._max_length = max_length
        self._batching: Batching | None = None
        self._device = modules.causal_lm.get_input_embeddings().weight.device
        with self._precision():
            self.layout = layout or probe_layout(modules.causal_lm, max_length=max_length)
        if self.processes.sharded and not self.layout.trees:
            raise ConfigError(
                f"model: {self.layout.reason}, so responses are scored one by one, which is not "
                "supported with a sharded base (FSDP); launch without --use_fsdp"
            )
        self._scorer = Scorer(modules.causal_lm, self.layout, differing=modules.lora_layers)
        self._checkpointing = (
            ActivationCheckpointing(modules.causal_lm) if gradient_checkpointing else None
        )

    def batch(self, trees: list[Tree]) -> TreeBatch:
        """The trees as one batch on the model's device."""
        return tree_batch(trees, pad_id=self.pad_id).to(self._device)

    def score(
        self, name: str, batch: TreeBatch, *, learning: bool = False, dropout: bool = True
    ) -> Tensor:
        """Summed log-probs of every response under the named policy, [N], nats, float32.

        Gradients reach the module only with `learning`, and its dropout is on only then; with
        `dropout` False it is off then too.
        """
        return self.measure(name, batch, learning=learning, dropout=dropout).sums

    def measure(
        self,
        name: str,
        batch: TreeBatch,
        *,
        statistics: Sequence[str] = (),
        temperature: float = 1.0,
        learning: bool = False,
        dropout: bool = True,
    ) -> Scores:
        """The sums as of `score`, at a temperature, and statistics of the predictions."""
        with self._under(name, learning=learning, dropout=dropout):
            return self._scorer.measure(batch, statistics, temperature=temperature)

    def kl(self, teacher: str, student: str, batch: TreeBatch, *, learning: bool = False) -> Tensor:
        """KL(teacher || student) of the predictions, summed over each response, [N], nats.

        With responses that the teacher gave its mean estimates the KL of whole answers. Gradients
        reach the student only with `learning`; dropout is off.
        """
        with self._under(teacher, learning=False):
            given = self._scorer.predictions(batch)
        with self._under(student, learning=learning, dropout=False):
            return self._scorer.kl(batch, given, self._scorer.predictions(batch))

    def kls(self, teachers: Sequence[str], student: str, batch: TreeBatch) -> dict[str, Tensor]:
        """As of `kl`, of several teachers, without gradients."""
        with self._under(student, learning=False):
            taken = self._scorer.predictions(batch)
        found = {}
        for teacher in teachers:
            with self._under(teacher, learning=False):
                found[teacher] = self._scorer.kl(batch, self._scorer.predictions(batch), taken)
        return found

    def values(
        self,
        name: str,
        batch: TreeBatch,
        *,
        where: Literal["predictors", "ends"],
        learning: bool = False,
    ) -> Tensor:
        """What the named module's head makes of the states before each token, [S], or of the last
        one of each response, [N]; float32."""
        with self._under(name, learning=learning):
            states = self._scorer.states(batch, where)
            # A product by elements: autocast leaves it in float32.
            return (states * self.modules.head(name)).sum(-1)

    def generate(
        self, name: str, prompts: Sequence[tuple[int, ...]], **settings: Any
    ) -> list[list[Completion]]:
        """Answers of the named policy to each prompt; the settings are those of `generate`.

        With several processes each samples for its share of the prompts, with its own seed.
        """
        processes, own = self.processes, self.processes.shard(prompts)
        settings["batching"] = self._sampled_in()
        settings |= {"seed": settings["seed"] + SEEDS_APART * processes.rank, "pad_id": self.pad_id}
        answers: list[list[Completion]] = []
        for asked, counts in processes.pad_passes(
            [own] if own else [], min(1, len(prompts)), prompts[:1]
        ):
            with self.modules.using(name):
                given = generate(
                    self.modules.causal_lm, asked, in_step=processes.sharded, **settings
                )
            answers += given if counts else []
        return processes.gather(answers, list_of(COMPLETION))

    def _sampled_in(self) -> Batching:
        """How the model answers several prompts, found out at the first ones."""
        if self._batching is None:
            model = self.modules.causal_lm
            self._batching = probe_batching(model, pad_id=self.pad_id, max_length=self._max_length)
            if self.processes.sharded and not self._batching.padded:
                raise ConfigError(
                    "model: prompts of different lengths cannot be answered together, as padding "
                    "changes the answers, which is not supported with a sharded base (FSDP); "
                    "launch without --use_fsdp"
                )
        return self._batching

    def embed(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """The bare model's mean embedding of each prompt, [N, 2 d], float32: see `Scorer.embed`."""
        with self.modules.using(BASE), torch.no_grad(), self._precision():
            trees = in_passes([Tree(prompt, ()) for prompt in prompts])
            return torch.cat([self._scorer.embed(self.batch(some)) for some in trees])

    @contextmanager
    def _under(self, name: str, *, learning: bool, dropout: bool = True) -> Iterator[None]:
        active = partial(self.modules.using, name, learning=learning and dropout)
        with ExitStack() as stack:
            stack.enter_context(active())
            stack.enter_context(torch.set_grad_enabled(learning))
            stack.enter_context(self._precision())
            if self._checkpointing is not None:
                again = partial(self._again, active)
                stack.enter_context(self._checkpointing.passing(again))
            yield

    @contextmanager
    def _again(self, active: Any, layer: nn.Module) -> Iterator[None]:
        with active(within=layer), self._scorer.attending():
            yield

    def _precision(self) -> AbstractContextManager[Any]:
        # Opened again for every pass: its cache of weights cast without gradients must not outlive
        # a pass that needs none.
        if not self.bfloat16:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)
