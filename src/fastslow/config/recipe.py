"""The recipe: everything a run depends on, typed, with a default for every key but `model`.

Each field's docstring is its only documentation: the command line and the docs are made from it.
An objective's own settings are checked by the objective, see `fastslow.objectives`.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import model_validator

from fastslow.config.continual import (
    AnchorConfig,
    ContinualConfig,
    DomainConfig,
    DriftConfig,
    ReplayConfig,
)
from fastslow.config.judging import JudgeConfig
from fastslow.config.sampling import (
    AnswerConfig,
    FilterConfig,
    OnlineConfig,
    OnlineKlConfig,
    RoundsConfig,
)
from fastslow.config.section import NonNegative, Section, UserPath
from fastslow.config.sections import (
    ChaseConfig,
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LoraConfig,
    MovingReferenceConfig,
    ObjectiveConfig,
    TrainConfig,
)
from fastslow.config.stages import StageConfig, stage_faults


class Recipe(Section):
    """One run, whole."""

    model: UserPath
    """Folder or hub id of the base model."""
    task: Literal["policy", "reward"] = "policy"
    """`reward` trains a model that scores answers, for the judge `reward_model`: modules get a head
    on the last token of a response, and the objective compares their rewards instead of log-probs
    against a reference (dpo with beta 1, Bradley and Terry's model, where none is given)."""
    output_dir: UserPath = "runs/fastslow"
    """The run folder. An unfinished run of the same recipe in it is continued."""
    seed: NonNegative = 0
    """Seeds the modules' initial weights, shuffling, dropout and sampling."""
    reference: Literal["base", "previous"] | None = None
    """The policy the objective compares with: `base` is the bare model, `previous` the policy at
    the start of this run. null means `previous` with `lora.start_from`, else `base`."""
    moving_reference: MovingReferenceConfig | None = None
    """null keeps the reference where it is."""
    online_kl: OnlineKlConfig | None = None
    """null regularises on the pairs alone."""
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
    rounds: RoundsConfig | None = None
    online: OnlineConfig | None = None
    filter: FilterConfig | None = None
    judge: JudgeConfig | None = None
    """Who compares the policy's answers, by `kind`: `world`, `rule`, `classifier`,
    `reward_model`, `llm` or `ensemble`."""
    stages: list[StageConfig] = []
    """Runs one after the other, each from the module of the one before, which is also its
    reference: `[sft, preferences]`. A stage may have sections of its own: `{name: sft, data:
    {train: demonstrations.jsonl}}`. Empty: one run."""

    @model_validator(mode="before")
    @classmethod
    def _rewards_on_their_own_scale(cls, given: Any) -> Any:
        """A reward model's objective where none is given."""
        if isinstance(given, dict) and given.get("task") == "reward":
            return {"objective": {"name": "dpo", "beta": 1.0}} | given
        return given

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
            self.reference == "previous"
            and lora.start_from is None
            and self.continual is None
            and self.rounds is None
            and not self.stages,
            "reference: 'previous' is the policy at the start of the run, which without "
            "lora.start_from is the base; set lora.start_from or reference: base",
        )
        own = ("rank", "alpha", "dropout", "target_modules")
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
            bool(self.data.eval_sources and self.eval.num_prompts and self.task == "policy")
            and self.eval.max_new_tokens >= self.data.max_length,
            f"eval.max_new_tokens: got {self.eval.max_new_tokens}; must be below data.max_length = "
            f"{self.data.max_length}, or no prompt fits",
        )
        yield (
            train.micro_batch_size is not None and train.micro_batch_size > train.batch_size,
            f"train.micro_batch_size: got {train.micro_batch_size}; must not be above "
            f"train.batch_size = {train.batch_size}",
        )
        yield (
            train.compile and train.gradient_checkpointing,
            "train.compile: cannot be had with train.gradient_checkpointing; set one of them",
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
        yield (
            bool(self.stages) and self.continual is not None,
            "stages: cannot be followed by several domains in one recipe; train the stages, "
            "`fastslow export` them merged, and give that folder as model",
        )
        yield from ((True, fault) for fault in stage_faults(self.stages))
        moves = self.moving_reference is not None
        yield (
            moves and lora.start_from is not None and self.reference == "base",
            "moving_reference: begins at the adapter that the run starts from; remove "
            "reference: base",
        )
        yield from self._reward_contradictions()
        yield from self._sampling_contradictions()
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

    def _reward_contradictions(self) -> Iterator[tuple[bool, str]]:
        if self.task == "policy":
            return
        of_policies = (
            "online_kl", "rounds", "online", "filter", "judge", "moving_reference", "anchor",
            "continual", "stages", "reference",
        )  # fmt: skip
        for name in of_policies:
            yield bool(getattr(self, name)), f"{name}: means nothing to a reward model; remove it"
        yield self.lora.start_from is not None, "lora.start_from: reward models begin fresh"
        yield self.eval.judge is not None, "eval.judge: a reward model answers nothing to judge"

    def _sampling_contradictions(self) -> Iterator[tuple[bool, str]]:
        yield from self._rounds_contradictions()
        online, size = self.online_kl, self.train.batch_size
        if online is None:
            return
        yield (
            online.max_new_tokens >= self.data.max_length,
            f"online_kl.max_new_tokens: got {online.max_new_tokens}; must be below data.max_length "
            f"= {self.data.max_length}, or no prompt fits",
        )
        yield (
            (online.prompts or 0) > size,
            f"online_kl.prompts: got {online.prompts}; must not be above train.batch_size = {size}",
        )

    def _rounds_contradictions(self) -> Iterator[tuple[bool, str]]:
        rounds, online = self.rounds, self.online
        asking = [name for name in ("rounds", "online", "filter") if getattr(self, name)]
        yield (
            (not asking) != (self.judge is None),
            "judge: compares answers of rounds, online or filter; give it with one of them only",
        )
        yield (
            len(asking) > 1,
            f"{' and '.join(asking)}: answer the same prompts in other ways; give one of them",
        )
        yield (
            self.filter is not None
            and (bool(self.stages) or self.continual is not None or self.data.label_delay > 0),
            "filter: cannot be had with continual, stages or data.label_delay in one recipe",
        )
        yield (
            self.filter is not None and self.filter.max_new_tokens >= self.data.max_length,
            f"filter.max_new_tokens: must be below data.max_length = {self.data.max_length}, or no "
            "prompt fits",
        )
        yield from self._answers_contradictions("rounds", rounds)
        yield from self._answers_contradictions("online", online)
        yield (
            online is not None and (self.data.label_delay > 0 or self.drift is not None),
            "online: the policy's own answers neither come late nor drift; remove data.label_delay "
            "and drift",
        )
        if rounds is None:
            return
        yield (
            rounds.beta is not None and len(rounds.beta) != rounds.count,
            f"rounds.beta: got {len(rounds.beta or [])} values for {rounds.count} rounds",
        )
        yield (
            rounds.recompress is not None and not rounds.momentum,
            "rounds.recompress: without momentum there is no sum of modules to compress",
        )

    def _answers_contradictions(
        self, name: str, answers: AnswerConfig | None
    ) -> Iterator[tuple[bool, str]]:
        if answers is None:
            return
        yield (
            self.continual is not None or bool(self.stages),
            f"{name}: cannot be had with continual or stages in one recipe; train one after the "
            "other, the second with lora.start_from",
        )
        yield (
            answers.max_new_tokens >= self.data.max_length,
            f"{name}.max_new_tokens: got {answers.max_new_tokens}; must be below data.max_length = "
            f"{self.data.max_length}, or no prompt fits",
        )
        yield (
            answers.offline_fraction > 0 and not self.data.train_sources,
            f"{name}.offline_fraction: takes pairs of data.train, which is missing",
        )
        yield (
            "-" in [*answers.prompt_sources, *self.data.train_sources],
            f"{name}: prompts are read more than once, which standard input cannot; give a file",
        )
        yield (
            self.replay is not None and name == "rounds",
            f"{name}: bring stored pairs by {name}.offline_fraction; remove replay",
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
            self.data.replay_buffer_size == 0
            and (fitted or bool(continual.replay) or continual.anchor == "ewc"),
            "data.replay_buffer_size: is 0, but replay, ewc and fitted weights need the examples",
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
            self.moving_reference is not None
            and continual.start != "fresh"
            and self.reference != "previous",
            "moving_reference: begins at the module before where continual.start is "
            f"{continual.start}; set reference: previous",
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
        return ("policy",) if self.chase is None else self.chase.modules

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
