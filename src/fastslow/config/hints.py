"""Hints for unknown recipe keys, first for the names that TRL, PEFT and transformers use."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from fastslow.config.judging import JudgeConfig
from fastslow.config.recipe import Recipe
from fastslow.errors import did_you_mean

MIXED = "write train.precision=mixed (bfloat16 over a float32 base) or train.precision=bfloat16"
RESPONSE = "data.max_length limits prompt plus response; longer pairs are truncated or skipped"
REFERENCE = "reference: base, previous, or moving_reference"
ELSEWHERE: dict[str, str] = {
    # Optimisation.
    "lr": "train.learning_rate",
    "learning_rate": "train.learning_rate",
    "optim": "train.optimizer",
    "lr_scheduler_type": "train.schedule",
    "lr_scheduler": "train.schedule",
    "scheduler": "train.schedule",
    "warmup_ratio": "write train.warmup_steps, a number of optimiser steps",
    "max_steps": "train.max_steps",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "per_device_train_batch_size": "write train.batch_size, the pairs per optimiser step over all "
    "devices; train.micro_batch_size splits it",
    "per_device_eval_batch_size": "evaluation takes train.micro_batch_size pairs per forward pass",
    "gradient_accumulation_steps": "train.batch_size counts pairs per optimiser step; "
    "train.micro_batch_size splits it",
    "max_grad_norm": "train.max_grad_norm",
    "gradient_clipping": "train.max_grad_norm",
    "gradient_checkpointing": "train.gradient_checkpointing",
    "torch_compile": "train.compile",
    "bf16": MIXED,
    "fp16": f"float16 is not supported; {MIXED}",
    "dtype": MIXED,
    "torch_dtype": MIXED,
    # LoRA.
    "r": "lora.rank",
    "lora_r": "lora.rank",
    "lora_rank": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.target_modules",
    "target_modules": "lora.target_modules",
    "peft_config": "write a section lora: rank, alpha, dropout, target_modules",
    "use_peft": "every run trains LoRA adapters; the section lora has their settings",
    "adapter_name_or_path": "lora.start_from",
    # The loss and its reference.
    "loss": "objective.name",
    "loss_type": "write objective.name (sigmoid is dpo); docs/objectives.md lists them",
    "beta": "objective.beta",
    "label_smoothing": "objective.label_smoothing",
    "rpo_alpha": "objective.nll_weight",
    "ref_model": f"the reference is the base or the start of the run; write {REFERENCE}",
    "reference_free": "an objective that needs no reference has none, as objective.name=simpo",
    "sync_ref_model": "moving_reference",
    "ref_model_sync_steps": "moving_reference.every",
    "ref_model_mixup_alpha": "moving_reference.share",
    "precompute_ref_log_probs": "the reference is scored once per example and kept in memory by "
    "itself; remove the key",
    # Data.
    "data.path": "data.train",
    "data.name": "data.train",
    "dataset": "data.train",
    "dataset_name": "data.train",
    "train_dataset": "data.train",
    "train_file": "data.train",
    "eval_dataset": "data.eval",
    "eval_file": "data.eval",
    "test_file": "data.eval",
    "max_length": "data.max_length",
    "max_seq_length": "data.max_length",
    "max_seq_len": "data.max_length",
    "max_prompt_length": RESPONSE,
    "max_completion_length": f"{RESPONSE}; max_new_tokens of eval, online, rounds and filter "
    "limits sampled answers",
    "dataset_num_proc": "the next batch is read and tokenised while one is learned; remove the key",
    "dataloader_num_workers": "the next batch is read and tokenised while one is learned; remove "
    "the key",
    "padding_free": "batches are never padded; remove the key",
    "packing": "batches are never padded; remove the key",
    # The model and the run.
    "model_name": "model",
    "model_name_or_path": "model",
    "base_model": "model",
    "tokenizer": "the tokenizer is the model's; remove the key",
    "output": "output_dir",
    "out_dir": "output_dir",
    "run_name": "output_dir",
    "eval_steps": "eval.every",
    "eval_strategy": "write eval.every, a number of optimiser steps",
    "save_steps": "checkpoint.every",
    "save_strategy": "write checkpoint.every, a number of optimiser steps",
    "save_total_limit": "checkpoint.keep",
    "resume_from_checkpoint": "rerun the same command to resume; remove the key",
    "logging_steps": "every step is written to events.jsonl in the run folder; remove the key",
    "num_generations": "write online.num_generations or rounds.num_generations",
    "temperature": "write online.temperature or rounds.temperature",
}  # fmt: skip
"""A key of another library, and the recipe's key or what to do. A key without a dot is recognised
in any of `SECTIONS`."""
SECTIONS = ("train", "data", "lora", "objective", "chase", "eval", "checkpoint")


def hint(path: Sequence[str | int]) -> str:
    """What to do about a key that does not exist, as the end of the error message.

    Args:
        path: its sections, and the key.
    """
    *outer, key = (str(part) for part in path)
    if advice := from_elsewhere([*outer, key]):
        return f"; {advice}"
    homes = [] if outer else _homes(key)
    if homes:
        return f"; did you mean {' or '.join(homes)}?"
    names = list(section_at(outer).model_fields)
    return did_you_mean(
        key,
        names,
        prefix="".join(f"{name}." for name in shown_path(path)[:-1]),
        otherwise=f"; allowed are {', '.join(names)}",
    )


def from_elsewhere(path: Sequence[str]) -> str:
    """What to write for another library's key; empty for any other key."""
    *outer, key = path
    advice = ELSEWHERE.get(".".join(path), "")
    if not advice and (not outer or (len(outer) == 1 and outer[0] in SECTIONS)):
        advice = ELSEWHERE.get(key, "")
    return f"write {advice}" if advice and " " not in advice else advice


def as_setting(option: str) -> str:
    """What to write for a key that was given as an option; empty if it is not a key.

    >>> as_setting("--learning-rate"), as_setting("--lora_r")
    ('write train.learning_rate=...', 'write lora.rank')
    """
    path = option.lstrip("-").replace("-", "_").split(".")
    *outer, key = path
    exists = key in section_at(outer).model_fields
    homes = [".".join(path)] if exists else [] if outer else _homes(key)
    return f"write {'=... or '.join(homes)}=..." if homes else from_elsewhere(path)


def section_at(path: Iterable[str]) -> type[BaseModel]:
    """The model of a section. Its path may contain list indices and kinds of judges."""
    candidates: list[type[BaseModel]] = [Recipe]
    for name in path:
        of_kind = [model for model in candidates if name in _kinds(model)]
        holding = [model for model in candidates if name in model.model_fields]
        if of_kind:
            candidates = of_kind
        elif holding:
            candidates = list(_models(holding[0].model_fields[name].annotation)) or candidates
    return candidates[0]


def shown_path(path: Iterable[str | int]) -> list[str]:
    """The path of a fault as users write it: without the branches of unions and the kinds of judges
    that pydantic puts into it. List indices count from 1, as stages and domains do elsewhere."""
    names = [str(part + 1 if isinstance(part, int) else part) for part in path]
    names = [name for name in names if not is_branch(name)]
    return [*(name for name in names[:-1] if name not in judge_kinds()), *names[-1:]]


def is_branch(name: str) -> bool:
    """True if pydantic puts this name into a location for a branch of a union."""
    return name == "str" or name.startswith(("list[", "function-after[", "literal["))


def judge_kinds() -> list[str]:
    """The kinds of judges."""
    return [kind for model in _models(JudgeConfig) for kind in _kinds(model)]


def library_of(keys: Collection[str]) -> str:
    """Whose YAML has these keys, if not a recipe: `llama-factory` or `trl`."""
    return "llama-factory" if {"stage", "finetuning_type"} & set(keys) else "trl"


def is_foreign(keys: Collection[str]) -> bool:
    """True if the keys of a file are those of TRL's or LLaMA-Factory's YAML, not of a recipe."""
    others = set(keys) - {"model_name_or_path", *Recipe.model_fields}
    return "model_name_or_path" in keys and bool(others) and not {"model", *SECTIONS} & set(keys)


def _homes(key: str) -> list[str]:
    """Full names of the keys in `SECTIONS` with this name."""
    sections = {name: section_at([name]) for name in SECTIONS}
    return [f"{name}.{key}" for name, section in sections.items() if key in section.model_fields]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()
