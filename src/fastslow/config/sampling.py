"""Learning from the policy's own answers: how they are sampled and what becomes of them."""

from typing import Annotated, Literal

from pydantic import Field

from fastslow.config.section import (
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    UserPath,
    as_list,
)


class SamplingConfig(Section):
    """How answers are sampled to be learned from."""

    num_generations: Positive = 2
    """Answers to each prompt."""
    temperature: PositiveFloat = 1.0
    """Divides the logits."""
    max_new_tokens: Positive = 64
    """Longest answer, in tokens."""


class FilterConfig(SamplingConfig):
    """Passes over stored pairs whose chosen answer the judge places below a fresh one (fDPO, arXiv
    2404.13846)."""

    num_generations: Positive = 1
    """Fresh answers that the chosen one is held against."""


class EngineConfig(Section):
    """An engine that answers over OpenAI's API, as vLLM started with `--enable-lora` and
    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True: modules are written to disk and loaded there by name."""

    url: str
    """Base URL, as `http://127.0.0.1:8000/v1`."""
    model: str
    """The base model's name there; it must be the recipe's."""
    folder: UserPath | None = None
    """Where modules are written for it to read; null takes the run folder."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key. The key itself is kept nowhere."""
    timeout_s: PositiveFloat = 300.0
    """For the answers to one prompt."""
    retries: NonNegative = 6
    """After a failure, with growing pauses."""
    max_concurrency: Positive = 64
    """Prompts on their way at a time."""


class AnswerConfig(SamplingConfig):
    """Answers that a judge compares, and what is learned of them."""

    num_generations: Annotated[int, Field(ge=2)] = 4
    """Answers to each prompt."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus that answers are sampled from."""
    prompts: UserPath | list[UserPath] | None = None
    """Rows whose prompts are answered; null takes those of data.train."""
    pick: Literal["best_worst", "all"] = "best_worst"
    """What is learned of the answers to a prompt: the best against the worst, or all of them."""
    offline_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the learned pairs that come from data.train."""

    engine: EngineConfig | None = None
    """null answers in this process, with the model that learns."""

    @property
    def prompt_sources(self) -> list[str]:
        return as_list(self.prompts)


class OnlineConfig(AnswerConfig):
    """Fresh answers in every step (online DPO, arXiv 2402.04792): the leader answers, the judge
    compares, the step learns from that."""

    num_generations: Positive = 2
    """Answers to each prompt; one is enough for `ppo` and `espo`, which have a critic."""
    steps_per_generation: Positive = 1
    """Batches that are sampled for at once."""
    num_iterations: Positive = 1
    """Times that those batches are gone over. No answer is older than their product less one
    updates when it is learned from."""
    overlap: bool = False
    """Whether the next answers are judged, and by an engine sampled, while those before are learned
    from. No answer is then older than twice as many updates."""
    critic_rate: PositiveFloat = 1.0
    """Learning rate of the critic of `ppo` and `espo`, over the policy's."""


class OnlineKlConfig(SamplingConfig):
    """The reverse KL to the reference, estimated in every step on fresh answers to prompts of the
    batch, that HyPO (arXiv 2406.01462) adds to an offline objective. At another temperature than 1
    it is the KL of policy and reference at that temperature."""

    weight: PositiveFloat
    """Of the KL, nats an answer, beside the mean objective. The paper's value is not public; a grid
    from 1e-4 to 0.1 finds it."""
    prompts: Positive | None = None
    """Prompts of each batch that are answered; null answers all."""


class RoundsConfig(AnswerConfig):
    """Iterative optimisation: in each round the policy answers prompts, the judge compares, and a
    run learns from that, with the policy that answered as its start and, unless `reference: base`,
    its reference. `momentum` makes it APO (arXiv 2410.06293)."""

    count: Positive = 3
    """Rounds."""
    prompts_per_round: Positive | None = None
    """Different prompts answered in each round; null shares them all out among the rounds."""
    beta: list[PositiveFloat] | None = None
    """The objective's beta in each round, which APO's paper raises (0.01, 0.1, 1); null keeps that
    of `objective`."""
    momentum: NonNegativeFloat = 0.0
    """Nesterov's: the policy that answers next is the learned one and so many times what it moved
    since the learned one before. 0 is plain iteration."""
    recompress: Positive | None = None
    """Largest rank of the policy that answers next; null keeps the exact sum of modules."""
