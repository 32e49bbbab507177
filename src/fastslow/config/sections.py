"""The sections of one run: data, adapters, objective, chase, optimiser, evaluation, checkpoints."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fastslow.config.judging import JudgeConfig
from fastslow.config.section import (
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    Share,
    UserPath,
    as_list,
)


class DataConfig(Section):
    """Where the preference pairs come from."""

    train: UserPath | list[UserPath] = []
    """Files (.jsonl, .json, .csv, each also .gz, and .parquet), directories, globs, `datasets`
    folders, hub ids, `feedback:DIR` for the votes of `fastslow serve DIR`, or `-` for standard
    input. Read in the order given. `folder:split` and `owner/name:split` are one split;
    `owner/name@revision:subset/split` names a commit, tag or branch and a subset too."""
    eval: UserPath | list[UserPath] | None = None
    """Held-out pairs, in the same forms; `feedback:DIR:held_out` are the votes on prompts that are
    never learned from."""
    domain: str | None = None
    """Domain of pairs whose row has no `domain` column."""
    template: Annotated[str, Field(min_length=1)] = "chat"
    """`chat` writes prompts with the tokenizer's chat template where it has one; `plain`
    concatenates prompt and response; the name of one of the tokenizer's several templates selects
    that one."""
    chat_template_kwargs: dict[str, Any] = {}
    """Arguments of the chat template besides the turns, for example `enable_thinking: false`. A
    row's own `chat_template_kwargs` take precedence."""
    columns: dict[str, str] = {}
    """Column names in the files, by their meaning here, for example `prompt: instruction`;
    docs/data.md lists the columns."""
    max_length: Annotated[int, Field(ge=2)] = 1024
    """Longest prompt plus response, in tokens."""
    max_bad_fraction: Share = 0.01
    """Share of unreadable rows above which the run stops."""
    shuffle: NonNegative = 0
    """Pairs are shuffled within blocks of this many; 0 keeps the order of arrival."""
    skip: NonNegative = 0
    """Skip this many pairs at the start of the stream."""
    follow: bool = False
    """At the end of the data wait for more: lines appended to .jsonl files, new files in folders
    and globs, votes. The run ends when it is stopped or reaches `train.max_steps`."""
    max_wait_s: PositiveFloat | None = None
    """For rows that arrive over time: learn from an incomplete batch after this many seconds; null
    waits until it is full."""
    label_delay: NonNegative = 0
    """Pairs that arrive between a pair and its label: it is tested on arrival and learned from this
    much later, in whole batches."""
    replay_buffer_size: NonNegative = 256
    """Pairs kept with the run, a uniform sample of those it learned from: merge weights are fitted
    on them, and later runs can replay them."""

    @property
    def train_sources(self) -> list[str]:
        return as_list(self.train)

    @property
    def eval_sources(self) -> list[str]:
        return as_list(self.eval)


class LoraConfig(Section):
    """The trained LoRA adapters."""

    rank: Positive = 16
    """Rank of each update."""
    alpha: PositiveFloat = 32.0
    """LoRA scaling numerator: updates are scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the input of each adapter while learning."""
    target_modules: str | list[str] = "all-linear"
    """Names of the layers that get an adapter, or `all-linear` (all but the output layer), or a
    regular expression for full names, for example `.*layers\\.(2|3)\\..*_proj`. Layers below the
    lowest adapter are computed once for all policies."""
    start_from: UserPath | None = None
    """PEFT folder the adapters start from; its frozen copy is then the reference."""
    freeze_start: bool = False
    """Freeze the adapter in `start_from` and train a fresh one of this rank and alpha on top of it.
    Their sum is saved, with the ranks added up. Otherwise training continues the adapter's own
    weights, at its own rank and alpha."""


class ObjectiveConfig(BaseModel):
    """The preference loss: its `name`, and the settings of that objective beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str = "dpo"
    """One of those in docs/objectives.md (`fastslow.objectives.objective_names()`), or a weighted
    sum, for example `dpo + 0.2 * sft`."""

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ChaseConfig(Section):
    """Fast-slow chasing (OFS-DPO, arXiv 2406.05534). `chase: null` trains one adapter."""

    alpha: NonNegativeFloat = 0.01
    """Weight of the chase term; 0 gives independent adapters, the best of which leads. Above 0
    policies become overconfident, without bound for pairs on which more than (1 + alpha/2) / (1 +
    alpha) of people agree."""
    speeds: Annotated[int, Field(ge=2, le=8)] = 2
    """Number of adapters, each slower than the one before; more than two, the paper's number, cover
    a wider range of learning rates."""
    slow_ratio: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Learning rate of an adapter over that of the next faster one."""
    slow_every: Positive = 1
    """The slower adapters are updated every this many steps; above 1 they also cost less."""
    swap_every: Positive = 2
    """Optimiser steps between two decisions on which adapter leads."""
    loss_decay: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """Weight of the losses before the last decision in the next one; 0, the paper's rule, compares
    the last `swap_every` steps only."""
    swap: Literal["roles", "roles_and_rates", "never"] = "roles"
    """What is swapped when an adapter that does not lead has the lower loss."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the adapters, the fastest first."""
        return ("fast", "slow", *(f"slow-{rank}" for rank in range(2, self.speeds)))


class MovingReferenceConfig(Section):
    """A reference that follows the policy (TR-DPO, arXiv 2404.09656): a frozen adapter that starts
    where the policy does. Held-out pairs are still measured against the start.
    """

    every: Positive = 64
    """Optimiser steps between two updates of the reference."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How far an update moves the reference towards the policy. 1 makes the reference the current
    policy; a small share with `every: 1` makes it a moving average."""


class BudgetConfig(Section):
    """How far the returned policy may be from its start. Beyond this its update is scaled down, as
    the loss on pairs does not show what a policy says elsewhere. `budget: null` returns whatever
    was learned."""

    reverse_kl: PositiveFloat | None = None
    """Largest KL(policy || reference), nats per answer of at most `eval.max_new_tokens` tokens.
    null allows 0.1 nats per token of the reference's answers, so that longer answers have more
    room."""
    every: Positive = 4
    """Optimiser steps between two measurements of the adapters during training. An adapter at more
    than twice the budget may not lead; if all are, they are scaled down at once."""
    reference: Literal["base", "previous"] | None = None
    """What the KL is measured from. null takes the run's reference; for domains, and for rounds
    that start at the base, it takes the base."""


def budget_from_base(budget: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A part's budget, measured from the base unless the whole recipe sets a reference."""
    return budget and {**budget, "reference": budget["reference"] or "base"}


class TrainConfig(Section):
    """How the adapters are optimised."""

    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate of the fast (or only) adapter."""
    optimizer: Literal["adamw", "rmsprop", "sgd"] = "adamw"
    """Optimiser of torch.optim, with its default betas."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled for adamw, added to the gradient for the others."""
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    """Learning rate after warm-up. An endless stream needs `constant` or `max_steps`."""
    warmup_steps: NonNegative = 0
    """Steps over which the learning rate rises linearly to its peak."""
    batch_size: Positive = 16
    """Pairs per optimiser step."""
    micro_batch_size: Positive | None = None
    """Pairs per forward pass; null takes the whole batch. Changes memory, not the update."""
    max_steps: Positive | None = None
    """Stop after this many optimiser steps."""
    epochs: Positive = 1
    """Passes over the data."""
    precision: Literal["float32", "mixed", "bfloat16", "auto"] = "float32"
    """`mixed` keeps the base in float32 and computes in bfloat16; `bfloat16` also loads the base in
    bfloat16; `auto` is `mixed` on GPUs and CPUs that have bfloat16 (AVX-512, AMX), else `float32`.
    A run that resumes on another processor computes as that one does. Adapters, log-prob sums and
    losses are always float32."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` uses a GPU if there is one; `cpu` does not. Commands that open the run later do the
    same, and a run may resume with the other setting."""
    max_grad_norm: PositiveFloat | None = 1.0
    """Largest gradient norm of each adapter; null does not clip."""
    skip_non_finite: bool = False
    """Skip a batch whose loss or gradient is not finite, with a warning, instead of ending the
    run."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: activations of one layer in memory instead of all,
    for a third more operations (1.8 times the time on a CPU). The update is the same."""
    compile: bool = False
    """Compile the layers with torch.compile: takes minutes at the start, then less time and memory
    per step."""


class EvalConfig(Section):
    """Measurements on held-out pairs, before, during and after training."""

    every: Positive | None = None
    """Optimiser steps between evaluations; null evaluates at the start and the end only."""
    max_pairs: Positive | None = None
    """Use only this many held-out pairs, the first ones; null uses all."""
    num_prompts: NonNegative = 64
    """Prompts answered by the leader to estimate reverse KL and length; 0 for none."""
    max_new_tokens: Positive = 128
    """Longest sampled answer, in tokens. Not set, it is at most half of `data.max_length`."""
    num_generations: Positive = 1
    """Answers sampled to each of those prompts."""
    judge: JudgeConfig | None = None
    """Scores those answers and compares them with the base's: `{kind: world, file: world.json}` for
    data of a world, whose true reward it knows, or any other judge. null takes the recipe's judge,
    if it has one."""


class PublishConfig(Section):
    """Adapters that others can load during the run: the leader, within its budget, written
    atomically as an ordinary PEFT folder `published/step-00000100` in the run folder, each together
    with a checkpoint. `publish: null` writes none before the end."""

    every: Positive = 100
    """Optimiser steps between two published adapters."""
    keep: Positive = 4
    """How many of the newest to keep."""


TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]
"""Trackers that can plot a run's metrics while it trains."""


class CheckpointConfig(Section):
    """What a run stores to resume exactly where it stopped."""

    every: Positive = 100
    """Optimiser steps between checkpoints."""
    keep: Positive = 2
    """How many of the newest checkpoints to keep."""
