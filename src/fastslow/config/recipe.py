"""The recipe: everything a run depends on, typed, with a default for every key but `model`.

Each field's docstring is its only documentation: the command line and the docs are made from it.
An objective's own settings are checked by the objective, see `fastslow.objectives`.
"""

from collections.abc import Iterator
from os.path import expanduser
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
UserPath = Annotated[str, AfterValidator(expanduser)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


def _as_list(sources: str | list[str] | None) -> list[str]:
    if sources is None:
        return []
    return [sources] if isinstance(sources, str) else list(sources)


class DataConfig(Section):
    """Where the preference pairs come from."""

    train: UserPath | list[UserPath] = []
    """Files (.jsonl, .jsonl.gz, .parquet), directories, globs, `datasets` folders, hub ids
    (`owner/name:split`), or `-` for standard input. Read in the order given."""
    eval: UserPath | list[UserPath] | None = None
    """Held-out pairs, in the same forms."""
    domain: str | None = None
    """Domain of pairs whose row has no `domain` column."""
    template: Literal["chat", "plain"] = "chat"
    """`chat` writes prompts with the tokenizer's chat template where it has one; `plain` joins
    prompt and response as they stand."""
    max_length: Annotated[int, Field(ge=2)] = 1024
    """Longest prompt plus response, in tokens."""
    max_bad_fraction: Share = 0.01
    """Share of unreadable rows above which the run stops."""
    shuffle: NonNegative = 0
    """Pairs are shuffled within blocks of this many; 0 keeps the order of arrival."""
    skip: NonNegative = 0
    """Leave out the first so many pairs of the stream."""
    label_delay: NonNegative = 0
    """Pairs that are shown between a pair and the arrival of its label: it is tested when shown and
    learned so much later, in whole batches."""
    memory: NonNegative = 256
    """Pairs kept with the run as an even sample of what it learned from: what a later combination
    of modules is weighed on, and what can be replayed."""

    @property
    def train_sources(self) -> list[str]:
        return _as_list(self.train)

    @property
    def eval_sources(self) -> list[str]:
        return _as_list(self.eval)


class LoraConfig(Section):
    """The trained modules."""

    rank: Positive = 16
    """Rank of each update."""
    alpha: PositiveFloat = 32.0
    """LoRA scaling numerator: updates are scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the input of each module while learning."""
    targets: str | list[str] = "all-linear"
    """Names of the layers that get a module, or `all-linear` (all but the output layer)."""
    start_from: UserPath | None = None
    """PEFT folder both modules start from; its frozen copy is then the reference."""


class ObjectiveConfig(BaseModel):
    """The preference loss: its `name`, and the settings of that objective beside it."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str = "dpo"
    """One of `fastslow.objectives.objective_names()`."""

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ChaseConfig(Section):
    """Fast-slow chasing (OFS-DPO, arXiv 2406.05534). `chase: null` trains one module."""

    alpha: NonNegativeFloat = 0.1
    """Weight of the chase term; 0 gives two independent runs of which the better one leads."""
    slow_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Learning rate of the slow module over that of the fast one."""
    slow_every: Positive = 1
    """The slow module is updated every so many steps; above 1 it also costs less."""
    swap_every: Positive = 20
    """Optimiser steps between two decisions on who leads."""
    swap: Literal["roles", "roles_and_rates", "never"] = "roles"
    """What changes hands when the chaser has the lower loss."""


class TrainConfig(Section):
    """How the modules are optimised."""

    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate of the fast (or only) module."""
    optimizer: Literal["adamw", "rmsprop", "sgd"] = "adamw"
    """Update rule, of torch.optim, with its default moments."""
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
    """Stop after so many optimiser steps."""
    epochs: Positive = 1
    """Passes over the data."""
    precision: Literal["float32", "mixed", "bfloat16"] = "float32"
    """`mixed` keeps the base in float32 and computes in bfloat16; `bfloat16` also loads the base in
    bfloat16. Modules, log-prob sums and losses are float32 in every case."""
    clip_norm: PositiveFloat | None = 1.0
    """Largest gradient norm of each module; null does not clip."""


class EvalConfig(Section):
    """Measurements on held-out pairs, before, during and after training."""

    every: Positive | None = None
    """Optimiser steps between evaluations; null evaluates at the start and the end only."""
    max_pairs: Positive | None = None
    """Use the first so many held-out pairs; null uses all."""
    samples: NonNegative = 64
    """Prompts answered by the leader to estimate reverse KL and length; 0 for none."""
    sample_tokens: Positive = 128
    """Longest sampled answer, in tokens."""
    answers: Positive = 1
    """Answers sampled to each of those prompts."""
    world: UserPath | None = None
    """`world.json` of the world that the data is from: its true reward scores the answers."""


class ReplayConfig(Section):
    """Pairs of earlier domains mixed into the stream."""

    memory: list[UserPath]
    """Files of pairs, such as the `memory.jsonl` of earlier runs."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of all pairs learned that come from the memory."""


class AnchorConfig(Section):
    """A pull of the modules' weights towards those they start from."""

    strength: PositiveFloat
    """Weight of the penalty, half the (weighted) squared distance."""
    fisher: UserPath | None = None
    """Importance of each weight (EWC), a `fisher.safetensors`; null weighs all alike (L2-SP)."""


class DomainConfig(Section):
    """One domain of a sequence."""

    name: Annotated[str, Field(min_length=1)]
    """Its name; a domain that returns has the same name again."""
    train: UserPath | list[UserPath]
    """Its pairs, in the forms data.train takes."""
    eval: UserPath | list[UserPath] | None = None
    """Its held-out pairs."""

    @property
    def train_sources(self) -> list[str]:
        return _as_list(self.train)

    @property
    def eval_sources(self) -> list[str]:
        return _as_list(self.eval)


class DriftConfig(Section):
    """Ends a run, or with `continual` a domain, where the test-then-train loss drifts."""

    detector: Literal["adwin", "page_hinkley", "kswin"] = "adwin"
    """Which of river's detectors listens."""
    sensitivity: Annotated[float, Field(gt=0, lt=1)] = 0.002
    """adwin: delta, kswin: alpha, both probabilities of a false alarm; page_hinkley: delta, the
    change that is tolerated. The detectors' other settings are river's defaults."""
    min_pairs: Positive = 256
    """Shortest domain."""


class ContinualConfig(Section):
    """Domain after domain: each learns a module, and the modules are combined (COFS-DPO)."""

    domains: list[DomainConfig] = []
    """The domains in order. Empty: data.train is one stream, cut where `drift` is detected."""
    start: Literal["fresh", "continue", "recall"] = "fresh"
    """Where a domain's modules start: from the base, from the module before, or, for a domain that
    returns, from its own earlier one."""
    weights: Literal["uniform", "fixed", "grid", "learned", "routed"] | None = "learned"
    """How the modules are combined after each domain; null: the last module alone answers."""
    fixed: list[Annotated[float, Field(allow_inf_nan=False)]] | None = None
    """The weights of `fixed`, in the order of the domains."""
    recompress: Positive | None = None
    """Largest rank of the combination; null keeps it exact, with the ranks added up."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the pairs learned that come from the memories of earlier domains."""
    anchor: Literal["l2_sp", "ewc"] | None = None
    """Hold continued modules near the one before: all weights alike, or by importance."""
    anchor_strength: PositiveFloat = 1.0
    """Weight of that penalty."""


class CheckpointConfig(Section):
    """What a run leaves on disk so that it can go on exactly where it stopped."""

    every: Positive = 100
    """Optimiser steps between checkpoints."""
    keep: Positive = 2
    """How many of the newest checkpoints stay."""


class Recipe(Section):
    """One run, whole."""

    model: UserPath
    """Folder or hub id of the base model."""
    output_dir: UserPath = "runs/fastslow"
    """The run folder. An unfinished run of the same recipe in it is continued."""
    seed: NonNegative = 0
    """Seeds the modules' initial weights, shuffling, dropout and sampling."""
    reference: Literal["base", "previous"] | None = None
    """The policy the objective compares with: `base` is the bare model, `previous` the policy at
    the start of this run. null means `previous` with `lora.start_from`, else `base`."""
    load_in_4bit: bool = False
    """Quantise the base to 4 bit (NF4) on loading; needs bitsandbytes."""
    trust_remote_code: bool = False
    """Let the model folder or hub repository run its own Python code. Only for code you know."""
    data: DataConfig = DataConfig()
    lora: LoraConfig = LoraConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    chase: ChaseConfig | None = ChaseConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    replay: ReplayConfig | None = None
    anchor: AnchorConfig | None = None
    drift: DriftConfig | None = None
    continual: ContinualConfig | None = None

    @model_validator(mode="after")
    def _settings_agree(self) -> "Recipe":
        """Refuse settings that contradict each other or would have no effect, all at once."""
        faults = [text for holds, text in self._contradictions() if holds]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        train, lora, defaults = self.train, self.lora, LoraConfig()
        yield (
            self.reference == "previous" and lora.start_from is None and self.continual is None,
            "reference: 'previous' is the policy at the start of the run, which without "
            "lora.start_from is the base; set lora.start_from or reference: base",
        )
        own = ("rank", "alpha", "dropout", "targets")
        changed = [key for key in own if getattr(lora, key) != getattr(defaults, key)]
        yield (
            lora.start_from is not None and bool(changed),
            f"lora.start_from brings its own settings; remove {', '.join(changed)}",
        )
        yield (
            self.load_in_4bit and train.precision != "bfloat16",
            "load_in_4bit: a 4-bit base computes in bfloat16; set train.precision to 'bfloat16'",
        )
        yield (
            bool(self.data.eval_sources and self.eval.samples)
            and self.eval.sample_tokens >= self.data.max_length,
            f"eval.sample_tokens: got {self.eval.sample_tokens}; must be below data.max_length = "
            f"{self.data.max_length}, or no prompt fits",
        )
        yield (
            train.micro_batch_size is not None and train.micro_batch_size > train.batch_size,
            f"train.micro_batch_size: got {train.micro_batch_size}; must not be above "
            f"train.batch_size = {train.batch_size}",
        )
        yield (
            train.max_steps is not None and train.warmup_steps >= train.max_steps,
            f"train.warmup_steps: got {train.warmup_steps}; must be below train.max_steps = "
            f"{train.max_steps}",
        )
        yield (
            self.anchor is not None and lora.start_from is None,
            "anchor: holds modules near the adapter they start from; set lora.start_from",
        )
        yield from self._continual_contradictions()
        yield (
            self.data.label_delay > 0 and "-" in self.data.train_sources,
            "data.label_delay: shows pairs ahead of learning them, which standard input cannot; "
            "give a file",
        )
        yield (
            [*self.data.train_sources, *self.data.eval_sources].count("-") > 1,
            "data: standard input (-) can be read once only",
        )

    def _continual_contradictions(self) -> Iterator[tuple[bool, str]]:
        continual = self.continual
        if continual is None:
            return
        yield (
            bool(continual.domains) == (self.drift is not None),
            "continual: give either continual.domains, or drift to find them in data.train",
        )
        yield (
            bool(continual.domains) and bool(self.data.train_sources or self.data.eval_sources),
            "continual.domains bring their own data; remove data.train and data.eval",
        )
        yield (
            (continual.weights == "fixed") != (continual.fixed is not None),
            "continual.fixed: is for weights: fixed, and that needs it",
        )
        yield (
            continual.fixed is not None
            and bool(continual.domains)
            and len(continual.fixed) != len(continual.domains),
            f"continual.fixed: got {len(continual.fixed or [])} weights for "
            f"{len(continual.domains)} domains",
        )
        yield (
            continual.fixed is not None and self.drift is not None,
            "continual.fixed: how many domains drift will find is not known; take other weights",
        )
        yield (
            continual.recompress is not None and continual.weights in (None, "routed"),
            "continual.recompress: there is no combination to compress with weights: "
            f"{continual.weights or 'null'}",
        )
        yield (
            continual.anchor is not None and continual.start == "fresh",
            "continual.anchor: fresh modules have nothing to be held near; set start: continue",
        )
        fitted = continual.weights in ("grid", "learned", "routed")
        yield (
            self.data.memory == 0
            and (fitted or bool(continual.replay) or continual.anchor == "ewc"),
            "data.memory: is 0, but replay, ewc and weights that are fitted need a memory",
        )
        yield (
            self.lora.start_from is not None or self.anchor is not None or self.replay is not None,
            "lora.start_from, anchor and replay are set for each domain by continual; remove them",
        )
        yield (
            self.reference == "previous" and continual.start == "fresh",
            "reference: 'previous' with start: fresh is the base; set reference: base",
        )
        yield (
            continual.start == "recall" and self.drift is not None,
            "continual.start: no domain that drift finds is known to return; recall needs names",
        )
        yield from self._source_contradictions(continual.domains)

    def _source_contradictions(self, domains: list[DomainConfig]) -> Iterator[tuple[bool, str]]:
        unmeasured = [domain.name for domain in domains if not domain.eval_sources]
        yield (
            0 < len(unmeasured) < len(domains),
            "continual.domains: each is measured after every other, so give eval for all of them "
            f"or for none; it is missing for {', '.join(unmeasured)}",
        )
        evals: dict[str, list[str]] = {}
        for domain in domains:
            evals.setdefault(domain.name, domain.eval_sources)
        changing = [d.name for d in domains if evals[d.name] != d.eval_sources]
        yield (
            bool(changing) and not unmeasured,
            f"continual.domains: {', '.join(changing)} returns with other held-out pairs than "
            "before; give it the same ones, or another name",
        )
        live = [source for d in domains for source in d.train_sources].count("-")
        yield (
            live > 1 or any("-" in d.eval_sources for d in domains),
            "continual.domains: standard input (-) can be read once only, and held-out pairs are "
            "read more often",
        )
        yield (
            "-" in [*self.data.train_sources, *self.data.eval_sources],
            "continual: standard input (-) can be read once only, but each domain that drift finds "
            "is read up to from the beginning; write it to a file first",
        )

    @property
    def module_names(self) -> tuple[str, ...]:
        """The trained modules, the fast one first."""
        return ("policy",) if self.chase is None else ("fast", "slow")

    @property
    def all_eval_sources(self) -> list[str]:
        """The run's held-out data: its own, or that of all its domains."""
        domains = self.continual.domains if self.continual else []
        # Each once, though a domain may return.
        given = dict.fromkeys(source for domain in domains for source in domain.eval_sources)
        return [*self.data.eval_sources, *given]

    @property
    def reference_name(self) -> Literal["base", "previous"]:
        """The reference with the default filled in."""
        return self.reference or ("previous" if self.lora.start_from else "base")
