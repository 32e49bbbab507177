"""The events of a run, as passed to a listener. events.jsonl holds those of training itself.

An event is a dict with its kind under `event`; the types here define the other keys.
"""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

Metrics = Mapping[str, Any]


class StartEvent(TypedDict):
    """An ordinary run begins, or resumes."""

    event: Literal["start"]
    resumed: bool
    step: int
    total_steps: int | None
    modules: list[str]
    objective: str
    beta: float | None
    """The objective's beta, if it has one."""
    reference: str
    task: str
    moving_reference: dict[str, Any] | None
    device: str
    bfloat16: bool
    """Whether products are computed in bfloat16."""
    processes: int
    machines: int
    sharded: bool
    layout: str
    heldout: dict[str, int]
    memory: str | None


class StepEvent(TypedDict):
    """A batch was learned from; the metrics are from before the update."""

    event: Literal["step"]
    step: int
    pairs_seen: int
    domains: Mapping[str, int]
    leader: str
    loss: float
    accuracy: float
    margin: float
    chosen_logp: float | None
    rejected_logp: float | None
    chosen_log_ratio: float | None
    rejected_log_ratio: float | None
    modules: dict[str, Metrics]
    pairs_per_s: float
    critic: NotRequired[Metrics]
    score: NotRequired[float]
    """The judge's mean score of the completions learned from."""
    staleness: NotRequired[int]
    answers: NotRequired[int]
    beaten: NotRequired[int]


class EvalEvent(TypedDict):
    """The leader was evaluated on held-out pairs; the other keys are those of `EvalResult`."""

    event: Literal["eval"]
    moment: str
    step: int
    leader: str
    accuracy: float
    loss: float
    margin: float
    reverse_kl: float | None
    mean_length: float | None
    reward: float | None


class SwapEvent(TypedDict):
    """Another module leads from the next step on."""

    event: Literal["swap"]
    step: int
    leader: str


class BeyondBudgetEvent(TypedDict):
    """Some modules are far beyond the KL budget and may not lead until they are back within it."""

    event: Literal["beyond_budget"]
    step: int
    modules: dict[str, float]
    """KL of each module, as a multiple of the limit."""


class BudgetEvent(TypedDict):
    """A policy was beyond the budget at the end and was scaled down to it."""

    event: Literal["budget"]
    module: str
    limit: float
    strength: float
    reverse_kl: float
    full: str | None
    tried: list[dict[str, float]]
    """Strength and reverse KL (nats per answer), in the order tried."""
    step: NotRequired[int]


class DriftEvent(TypedDict):
    """The preferences have changed, which ends the domain."""

    event: Literal["drift"]
    step: int
    pairs_seen: int


class WarningEvent(TypedDict):
    """Something the user is unlikely to want."""

    event: Literal["warning"]
    message: str
    step: NotRequired[int]


class StopEvent(TypedDict):
    """A stop was requested (`stopping`), or the run stopped with a checkpoint (`stopped`)."""

    event: Literal["stopping", "stopped"]
    signal: str
    step: NotRequired[int]


class CheckpointEvent(TypedDict):
    """A checkpoint is on disk."""

    event: Literal["checkpoint"]
    step: int
    path: str


class ProgressEvent(TypedDict):
    """How many items of a task are done."""

    event: Literal["progress"]
    task: str
    done: int
    total: int


class PartEvent(TypedDict):
    """A stage, a round or a domain begins."""

    event: Literal["stage", "round", "domain"]
    number: int
    of: NotRequired[int]
    name: NotRequired[str]


class MeasuredEvent(TypedDict):
    """A policy was evaluated on several domains."""

    event: Literal["measured"]
    label: str
    results: Mapping[str, Metrics]


class PublishedEvent(TypedDict):
    """The leader was written where others can load it; if the run has a budget, the other keys are
    those of `BudgetEvent`."""

    event: Literal["published"]
    step: int
    path: str


class MoreEvent(TypedDict):
    """A run that has already trained takes in rows added to its data, or trains more steps."""

    event: Literal["more"]
    step: int
    rows: Mapping[str, int | None]
    """Number of new rows by source; None where they cannot be counted in advance."""


class CompleteEvent(TypedDict):
    """A run has finished, or had finished before."""

    event: Literal["complete", "already_complete"]
    folder: str
    leader: NotRequired[str]
    repeated: NotRequired[int]
    """Rows of standard input that had been piped in before."""


class CombiningEvent(TypedDict):
    """Modules are being combined."""

    event: Literal["combining"]
    modules: int


class AnswersEvent(TypedDict):
    """The prompts of a round have been answered and judged."""

    event: Literal["answers"]
    judge: str
    prompts: int
    rows: int
    ties: int
    answers: int
    truncated: int


class ExceededEvent(TypedDict):
    """The policy has moved too far from its completions, so they are generated again."""

    event: Literal["exceeded_max_ratio"]
    step: int
    ratio_deviation: float


Event = (
    StartEvent
    | StepEvent
    | EvalEvent
    | SwapEvent
    | BeyondBudgetEvent
    | BudgetEvent
    | DriftEvent
    | WarningEvent
    | StopEvent
    | CheckpointEvent
    | ProgressEvent
    | PartEvent
    | MeasuredEvent
    | PublishedEvent
    | MoreEvent
    | CompleteEvent
    | CombiningEvent
    | AnswersEvent
    | ExceededEvent
)
