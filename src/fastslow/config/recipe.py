"""The recipe: everything a run depends on, typed, with a default for every key but `model`.

Each field's docstring is its only documentation: the command line and the docs are made from it.
An objective's own settings are checked by the objective, see `fastslow.objectives`.
"""

from typing import Any, Literal

from pydantic import model_validator

from fastslow.config.continual import (
    AnchorConfig,
    ContinualConfig,
    DriftConfig,
    ReplayConfig,
)
from fastslow.config.judging import JudgeConfig
from fastslow.config.live import LiveConfig
from fastslow.config.prompts import PromptsConfig
from fastslow.config.rules import faults
from fastslow.config.sampling import (
    FilterConfig,
    OnlineConfig,
    OnlineKlConfig,
    RoundsConfig,
    within_length,
)
from fastslow.config.section import NonNegative, Section, UserPath
from fastslow.config.sections import (
    BudgetConfig,
    ChaseConfig,
    CheckpointConfig,
    DataConfig,
    EvalConfig,
    LoraConfig,
    MovingReferenceConfig,
    ObjectiveConfig,
    PublishConfig,
    TrackerName,
    TrainConfig,
)
from fastslow.config.stages import StageConfig


class Recipe(Section):
    """One whole run."""

    model: UserPath
    """Folder or hub id of the base model; `owner/name@v1` pins a commit, tag or branch."""
    task: Literal["policy", "reward"] = "policy"
    """`reward` trains a model that scores answers, for the judge `reward_model`: adapters get a
    head on the last token of a response, and the objective compares rewards instead of log-probs
    against a reference (by default dpo with beta 1, which is the Bradley-Terry model)."""
    output_dir: UserPath = "runs/fastslow"
    """The run folder. An interrupted run of the same recipe in this folder is resumed."""
    seed: NonNegative = 0
    """Seeds the adapters' initial weights, shuffling, dropout and sampling."""
    reference: Literal["base", "previous"] | None = None
    """The policy the objective compares with: `base` is the bare model, `previous` the policy at
    the start of this run. null means `previous` with `lora.start_from`, else `base`."""
    moving_reference: MovingReferenceConfig | None = None
    """null keeps the reference fixed."""
    online_kl: OnlineKlConfig | None = None
    """null adds none."""
    load_in_4bit: bool = False
    """Quantise the base to 4 bit (NF4) on loading; needs bitsandbytes."""
    trust_remote_code: bool = False
    """Let the model folder or hub repository run its own Python code. Only for code you know."""
    data: DataConfig = DataConfig()
    lora: LoraConfig = LoraConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    chase: ChaseConfig | None = ChaseConfig()
    train: TrainConfig = TrainConfig()
    budget: BudgetConfig | None = BudgetConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    publish: PublishConfig | None = None
    report_to: TrackerName | list[TrackerName] = []
    """Trackers to which `train` logs every step and evaluation, for example `[tensorboard, wandb]`.
    Each must be installed, and uses its own server and login settings. TensorBoard files are in
    `tensorboard` in the run folder."""
    replay: ReplayConfig | None = None
    anchor: AnchorConfig | None = None
    drift: DriftConfig | None = None
    continual: ContinualConfig | None = None
    rounds: RoundsConfig | None = None
    online: OnlineConfig | None = None
    filter: FilterConfig | None = None
    judge: JudgeConfig | None = None
    """What compares the policy's answers, by `kind`: `world`, `rule`, `classifier`, `reward_model`,
    `llm` or `ensemble`."""
    live: LiveConfig | None = None
    """null trains an ordinary run."""
    prompts: PromptsConfig | None = None
    """null trains."""
    stages: list[StageConfig] = []
    """Runs in sequence, each starting from the previous one's adapter, which is also its reference:
    `[sft, preferences]`. A stage may override sections: `{name: sft, data: {train:
    demonstrations.jsonl}}`. Empty is one run."""

    @model_validator(mode="before")
    @classmethod
    def _rewards_on_their_own_scale(cls, given: Any) -> Any:
        """Default objective of a reward model."""
        if isinstance(given, dict) and given.get("task") == "reward":
            return {"objective": {"name": "dpo", "beta": 1.0}} | given
        return given

    @model_validator(mode="before")
    @classmethod
    def _answers_leave_room(cls, given: Any) -> Any:
        """Default lengths of sampled answers."""
        return within_length(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _settings_agree(self) -> "Recipe":
        """Refuse settings that contradict each other or would have no effect, all at once."""
        if problems := faults(self):
            raise ValueError("\n".join(problems))
        return self

    @property
    def module_names(self) -> tuple[str, ...]:
        """The trained modules, the fast one first."""
        return ("policy",) if self.chase is None else self.chase.modules

    @property
    def trackers(self) -> tuple[TrackerName, ...]:
        """The trackers in `report_to`, each once."""
        names = [self.report_to] if isinstance(self.report_to, str) else self.report_to
        return tuple(dict.fromkeys(names))

    @property
    def all_eval_sources(self) -> list[str]:
        """Sources of the run's held-out data, including those of all its domains."""
        domains = self.continual.domains if self.continual else []
        # Each once, though a domain may return.
        of_domains = dict.fromkeys(source for domain in domains for source in domain.eval_sources)
        return [*self.data.eval_sources, *of_domains]

    @property
    def reference_name(self) -> Literal["base", "previous"]:
        """The reference with the default filled in."""
        return self.reference or ("previous" if self.lora.start_from else "base")
