"""Sections for learning from the policy's own answers: how they are sampled and used."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from fastslow.config.section import (
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    ServerUrl,
    UserPath,
    as_list,
)
from fastslow.config.sections import EvalConfig, budget_from_base

LONGEST = 512
"""Default longest answer, in tokens; most answers of a chat model end before."""


class SamplingConfig(Section):
    """How answers are sampled to be learned from."""

    num_generations: Positive = 2
    """Answers to each prompt."""
    temperature: PositiveFloat = 1.0
    """Divides the logits."""
    max_new_tokens: Positive = LONGEST
    """Longest answer, in tokens. Not set, it is at most half of `data.max_length`."""


class FilterConfig(SamplingConfig):
    """Skips stored pairs whose chosen answer the judge ranks below a freshly sampled one (fDPO,
    arXiv 2404.13846)."""

    num_generations: Positive = 1
    """Sampled answers that the chosen answer is compared with."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """A pair is used if its chosen answer scores more than this above the best sampled one, in the
    judge's units. 0 skips ties, as the paper's code does; anything below 0 keeps them."""


NEUTRAL: dict[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "repeat_penalty": 1.0,
    "return_token_ids": True,
}
"""Sampling settings that change nothing (`repeat_penalty` is llama.cpp's name of
`repetition_penalty`), and vLLM's option to return token ids."""
OWN_FIELDS = {
    "model", "messages", "prompt", "n", "temperature", "top_p", "max_tokens", "seed", "stream",
    "presence_penalty", "frequency_penalty",
}  # fmt: skip
"""Fields of a request that have their own key, or none because they must not be changed."""


def _without_own_fields(fields: dict[str, Any]) -> dict[str, Any]:
    if taken := sorted(OWN_FIELDS & set(fields)):
        message = "must not hold {taken}, which each request sets itself"
        raise PydanticCustomError("extra_body", message, {"taken": ", ".join(taken)})
    return fields


class EngineConfig(Section):
    """An inference server with an OpenAI-compatible API, for example vLLM started with
    `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True. Adapters are written to disk and
    loaded there by name."""

    url: ServerUrl
    """Base URL, as `http://127.0.0.1:8000/v1`."""
    model: str
    """The base model's name on the server; it must be the recipe's base."""
    folder: UserPath | None = None
    """Folder in which adapters are written for the server to read; null takes the run folder."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key. The key itself is never stored."""
    timeout_s: PositiveFloat = 300.0
    """Timeout for the answers to one prompt."""
    retries: NonNegative = 6
    """Retries after a failure, with exponential backoff."""
    max_concurrency: Positive = 64
    """Requests in flight at a time."""
    extra_body: Annotated[dict[str, Any], AfterValidator(_without_own_fields)] = NEUTRAL
    """Fields of each request beyond OpenAI's. The default overrides what vLLM, SGLang and llama.cpp
    would otherwise take from their own generation settings, and asks vLLM to return token ids; use
    `{}` for a server that refuses unknown fields."""


class AnswerConfig(SamplingConfig):
    """Answers that a judge compares, and what is learned from them."""

    num_generations: Annotated[int, Field(ge=2)] = 4
    """Answers to each prompt."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling."""
    prompts: UserPath | list[UserPath] | None = None
    """Rows whose prompts are answered, in the forms data.train takes; null takes data.train."""
    pick: Literal["best_worst", "all"] = "best_worst"
    """What is learned from the answers to a prompt: the best against the worst, or all of them."""
    offline_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the learned pairs that come from data.train."""

    engine: EngineConfig | None = None
    """null generates in this process, with the model that is trained."""

    @property
    def prompt_sources(self) -> list[str]:
        return as_list(self.prompts)


class OnlineConfig(AnswerConfig):
    """Fresh answers in every step (online DPO, arXiv 2402.04792): the leader answers, the judge
    compares the answers, and the step learns from them."""

    num_generations: Positive = 2
    """Answers to each prompt; one is enough for `ppo` and `espo`, which have a critic."""
    steps_per_generation: Positive = 1
    """Batches whose answers are sampled together."""
    num_iterations: Positive = 1
    """Passes over those batches. An answer is at most steps_per_generation x num_iterations - 1
    updates old when it is used."""
    overlap: bool = False
    """Judge the next answers (and sample them, with an engine) while training on the current ones.
    Answers are then at most twice as old."""
    critic_rate: PositiveFloat = 1.0
    """Learning rate of the critic of `ppo` and `espo`, as a multiple of the policy's."""


class OnlineKlConfig(SamplingConfig):
    """HyPO (arXiv 2406.01462): adds the reverse KL to the reference, estimated in every step on
    fresh answers to prompts of the batch, to an offline objective. At a temperature other than 1 it
    is the KL of policy and reference at that temperature."""

    weight: PositiveFloat
    """Weight of the KL, in nats per answer, added to the mean objective. The paper's value
    could not be read; search from 1e-4 to 0.1."""
    prompts: Positive | None = None
    """Prompts per batch that are answered; null answers all."""
    max_new_tokens: Positive = 64
    """Longest answer, in tokens; the KL is that of the tokens sampled."""


class RoundsConfig(AnswerConfig):
    """Iterative optimisation: in each round the policy answers prompts, the judge compares the
    answers, and a run learns from them: a fresh adapter of the recipe's rank and alpha on top of
    the policy that answered, which is also the reference unless `reference: base`. `momentum` makes
    it APO (arXiv 2410.06293)."""

    count: Positive = 3
    """Number of rounds."""
    prompts_per_round: Positive | None = None
    """Prompts per round, different ones in each; null splits all prompts among the rounds."""
    beta: list[PositiveFloat] | None = None
    """The objective's beta in each round, as in APO's paper (0.01, 0.1, 1); null keeps that of
    `objective`."""
    momentum: NonNegativeFloat = 0.0
    """Nesterov momentum: the next round starts from the learned policy plus this multiple of its
    change since the round before. 0 is plain iteration."""
    recompress: Positive | None = None
    """Largest rank of the next round's start; null keeps the exact sum of the adapters learned in
    all rounds, whose ranks add up."""


def within_length(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A raw recipe in which sampled answers without a given length leave half of data.max_length to
    their prompts."""
    data, result = recipe.get("data"), dict(recipe)
    length = data.get("max_length") if isinstance(data, Mapping) else None
    if not isinstance(length, int) or length < 2:
        return result
    defaults = dict.fromkeys(("online", "rounds", "filter"), LONGEST)
    if "eval" not in result:
        result["eval"] = {}  # Unlike the others, it is on by default.
    for name, longest in {**defaults, "eval": EvalConfig().max_new_tokens}.items():
        if length < 2 * longest and isinstance(section := result.get(name), Mapping):
            result[name] = {"max_new_tokens": length // 2, **section}
    return result


def round_settings(
    whole: Mapping[str, Any],
    index: int,
    *,
    answers: str,
    start_from: str | None,
    output_dir: str,
) -> dict[str, Any]:
    """The recipe of one round, as a mapping.

    Args:
        whole: the whole recipe as JSON.
        index: of the round, from 0.
        answers: folder of the judged answers that it learns from.
        start_from: the adapter that answered; None for the base.
        output_dir: of the round's run.
    """
    rounds = whole["rounds"]
    settings = {
        **whole,
        "output_dir": output_dir,
        "data": {**whole["data"], "train": answers, "skip": 0},
        "rounds": None,
        "judge": None,
        "eval": {**whole["eval"], "judge": whole["eval"]["judge"] or whole["judge"]},
    }
    if rounds["beta"] is not None:
        settings["objective"] = {**whole["objective"], "beta": rounds["beta"][index]}
    if start_from is None:
        settings["reference"] = "base"
    else:
        settings["lora"] = {**whole["lora"], "start_from": start_from, "freeze_start": True}
        settings["reference"] = whole["reference"] or "previous"
    if whole["lora"]["start_from"] is None:
        settings["budget"] = budget_from_base(whole["budget"])
    if rounds["offline_fraction"]:
        memory = as_list(whole["data"]["train"])
        settings["replay"] = {"memory": memory, "share": rounds["offline_fraction"]}
    return settings
