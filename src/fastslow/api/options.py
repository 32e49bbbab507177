"""A learner's keyword arguments to the recipe and the objective that the core knows."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any

from fastslow.adapters.objects import lora_settings
from fastslow.api.view import LONGEST_ANSWER
from fastslow.config import (
    BudgetConfig,
    ChaseConfig,
    MovingReferenceConfig,
    Recipe,
    load_recipe,
)
from fastslow.errors import ConfigError
from fastslow.objectives import Objective, as_objective, setting_names

LONGEST = 1024
"""Tokens of prompt plus response where nothing else is said, or the model's context if less."""
OTHER_NAMES = {
    "lr": "learning_rate", "max_seq_length": "max_length", "loss_type": "objective",
    "ref_model": "reference", "args": "keyword arguments", "batch_size": "the length of a batch",
    "processing_class": "tokenizer", "train_dataset": "step", "lora_config": "peft_config",
    "warmup": "warmup_steps", "max_new_tokens": "an argument of generate and evaluate",
}  # fmt: skip
"""What people know settings by, to what they are here."""


TRAIN = (
    "learning_rate", "optimizer", "weight_decay", "warmup_steps", "max_grad_norm",
    "micro_batch_size", "precision", "gradient_checkpointing", "skip_non_finite",
)  # fmt: skip
"""The settings of the recipe's `train`."""
SECTIONS = (BudgetConfig, ChaseConfig, MovingReferenceConfig)


def learner_recipe(
    model: str,
    *,
    peft_config: Any,
    chase: ChaseConfig | Mapping[str, Any] | None,
    budget: BudgetConfig | Mapping[str, Any] | None,
    moving_reference: MovingReferenceConfig | Mapping[str, Any] | None,
    start_from: str | None,
    max_length: int,
    template: str,
    **settings: Any,
) -> Recipe:
    """The recipe of an ordinary run with these settings. Raises ConfigError with all faults."""
    lora = {} if peft_config is None else lora_settings(peft_config)
    if start_from is not None:
        if lora:
            raise ConfigError("start_from: brings its own LoRA settings; leave peft_config out")
        lora = {"start_from": str(start_from)}
    train = {key: settings.pop(key) for key in TRAIN}
    size = train["micro_batch_size"]
    answer = min(LONGEST_ANSWER, max_length // 2) if isinstance(max_length, int) else LONGEST_ANSWER
    return load_recipe(
        {
            "model": model,
            "lora": lora,
            "chase": _section(chase),
            "budget": _section(budget),
            "moving_reference": _section(moving_reference),
            "train": {"schedule": "constant", **({"batch_size": size} if size else {}), **train},
            "data": {"max_length": max_length, "template": template},
            "eval": {"num_prompts": 0, "max_new_tokens": max(1, answer)},
            **{key: value for key, value in settings.items() if value is not None},
        }
    )


def learner_objective(
    objective: Any, settings: Mapping[str, Any], arguments: list[str]
) -> Objective:
    """The objective with its settings; an unknown one gets a hint at the learner's `arguments`.

    Raises ConfigError, also for objectives that learn from answers sampled in a run.
    """
    own = _settings_of(objective)
    problems = []
    for key in settings:
        if own is None or key in own:
            continue
        close = get_close_matches(key, [*arguments, *own], n=1, cutoff=0.6)
        meant = OTHER_NAMES.get(key) or (close[0] if close else None)
        hint = f"; did you mean {meant}?" if meant else f"; the objective has {', '.join(own)}"
        problems.append(f"{key}: no such setting of the learner or of its objective{hint}")
    if problems:
        raise ConfigError(*problems)
    made = as_objective(objective, **settings)
    if made.on_policy:
        raise ConfigError(
            f"objective: {type(made).__name__} learns from answers that the policy samples, which "
            "a batch of rows does not have; use fastslow.train with a recipe that has online"
        )
    return made


def objective_section(objective: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's `objective`; of an object its name alone, as the core is handed the object."""
    if isinstance(objective, str):
        return {"name": objective, **settings}
    return {"name": getattr(objective, "__name__", type(objective).__name__)}


def default_length(context: int | None) -> int:
    """The longest prompt plus response of a model with this context, tokens."""
    return min(LONGEST, context) if context else LONGEST


def _settings_of(objective: Any) -> list[str] | None:
    """Names of an objective's settings; None where making it tells."""
    if isinstance(objective, str):
        return setting_names(objective)
    if isinstance(objective, type) and is_dataclass(objective):
        return [f.name for f in fields(objective)]
    if isinstance(objective, (Objective, type)) or not callable(objective):
        return None
    return ["beta"]


def _section(config: Any) -> Any:
    return config.model_dump() if isinstance(config, SECTIONS) else config
