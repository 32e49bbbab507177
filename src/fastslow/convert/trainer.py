"""The arguments of transformers' Trainer, which TRL and LLaMA-Factory share, to a recipe."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.convert.foreign import Foreign, by_reason

OPTIMIZERS = {
    "adamw": "adamw", "adamw_hf": "adamw", "adamw_torch": "adamw", "adamw_torch_fused": "adamw",
    "adamw_8bit": "adamw", "adamw_bnb_8bit": "adamw", "paged_adamw_8bit": "adamw",
    "paged_adamw_32bit": "adamw", "paged_adamw": "adamw", "sgd": "sgd", "rmsprop": "rmsprop",
}  # fmt: skip
SCHEDULES = {
    "linear": "linear", "cosine": "cosine", "constant": "constant",
    "constant_with_warmup": "constant",
}  # fmt: skip
TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")
SHUFFLED = 16384
"""Pairs in a block that is shuffled: few data sets have more."""

IDLE = by_reason(
    {
        "every step is in events.jsonl": "logging_steps logging_strategy logging_first_step "
        "logging_nan_inf_filter logging_dir log_level log_level_replica log_on_each_node "
        "disable_tqdm include_num_input_tokens_seen skip_memory_metrics",
        "the next batch is read while one is learned": "dataloader_num_workers "
        "dataloader_prefetch_factor dataloader_persistent_workers dataloader_pin_memory "
        "dataloader_in_order dataloader_multiprocessing_context dataset_num_proc "
        "preprocessing_num_workers preprocessing_batch_size",
        "the launcher's and accelerate's": "ddp_* local_rank accelerator_config parallelism_config "
        "average_tokens_across_devices",
        "rerun the same command to resume": "resume_from_checkpoint overwrite_output_dir "
        "restore_callback_states_from_checkpoint enable_jit_checkpoint",
        "`train` trains and evaluates": "do_train do_eval do_predict",
        "evaluation takes train.micro_batch_size pairs at once": "per_device_eval_batch_size "
        "eval_accumulation_steps eval_do_concat_batches eval_use_gather_object batch_eval_metrics "
        "include_for_metrics prediction_loss_only",
        "the start is always measured": "eval_on_start eval_delay",
        "a batch that does not fit is split": "auto_find_batch_size torch_empty_cache_steps",
        "runs on a CPU repeat bit for bit": "full_determinism",
        "how it is computed, not what": "tf32 bf16_full_eval fp16_full_eval "
        "gradient_checkpointing_kwargs activation_checkpointing_kwargs torch_compile_backend "
        "torch_compile_mode use_liger_kernel liger_kernel_config use_cache",
        "columns are told by their names": "remove_unused_columns label_names length_column_name",
        "the run folder is the name": "run_name project",
    }
)
LOST = by_reason(
    {
        "push when it is finished: `fastslow push RUN owner/name`": "push_to_hub hub_*",
        "settings of a tracker are its own variables": "trackio_*",
        "sharding is accelerate's: `accelerate launch ... -m fastslow train`": "deepspeed fsdp "
        "fsdp_config",
        "the order of the pairs follows seed": "data_seed",
        "checkpoints hold all that resuming needs": "save_only_model save_on_each_node",
        "of load_best_model_at_end": "metric_for_best_model greater_is_better",
        "a run resumes at its exact row": "ignore_data_skip",
        "a debugger's": "debug",
    }
)
NEWEST = "main"
"""Revision of a base where none is named."""
OFF: Mapping[str, tuple[Any, str]] = {
    "adam_beta1": (0.9, "betas are torch's defaults here"),
    "adam_beta2": (0.999, "betas are torch's defaults here"),
    "adam_epsilon": (1e-8, "epsilon is torch's default here"),
    "optim_args": (None, "optimisers have their defaults here"),
    "optim_target_modules": (None, "optimisers of low-rank gradients are not here"),
    "lr_scheduler_kwargs": (None, "schedules have no settings here"),
    "label_smoothing_factor": (0.0, "smoothing of tokens' labels is not here"),
    "neftune_noise_alpha": (None, "noise on embeddings is not here"),
    "load_best_model_at_end": (False, "the last leader is handed over here, not the best one"),
    "dataloader_drop_last": (False, "the last, smaller batch is learned too here"),
    # Not of the trainer, but of both libraries too.
    "use_rslora": (False, "updates are scaled by alpha / rank; set lora.alpha instead"),
    "use_dora": (False, "DoRA is not here"),
    "ld_alpha": (None, "no part of a response counts less than another here"),
}


@dataclass(frozen=True, slots=True)
class Defaults:
    """Of the library, where the two differ."""

    learning_rate: float
    epochs: float = 3.0


def base(foreign: Foreign) -> None:
    """The model, and whether its code may run."""
    model = foreign.take("model_name_or_path", to="model")
    revision = foreign.take("model_revision", NEWEST, to="model")
    pinned = revision != NEWEST and not Path(model).is_dir()
    foreign.put("model", f"{model}@{revision}" if pinned else model)
    if foreign.take("trust_remote_code", False, to="trust_remote_code"):
        foreign.put("trust_remote_code", True)


def trainer_arguments(foreign: Foreign, defaults: Defaults, *, processes: int) -> None:
    """Batches, optimiser, schedule, checkpoints, evaluations, trackers."""
    foreign.put("output_dir", str(foreign.take("output_dir", "runs/converted", to="output_dir")))
    foreign.put("seed", foreign.take("seed", 42, to="seed"))
    _batches(foreign, defaults, processes)
    _optimiser(foreign, defaults)
    _schedule(foreign)
    _cadence(foreign)
    _trackers(foreign)


def _batches(foreign: Foreign, defaults: Defaults, processes: int) -> None:
    each = _whole(foreign, "per_device_train_batch_size", 8, to="train.batch_size")
    times = _whole(foreign, "gradient_accumulation_steps", 1, to="train.batch_size")
    foreign.put("train.batch_size", each * times * processes)
    if times * processes > 1:
        foreign.put("train.micro_batch_size", each)
    epochs = float(foreign.take("num_train_epochs", defaults.epochs, to="train.epochs"))
    most = _whole(foreign, "max_steps", -1, to="train.max_steps")
    if most > 0:
        foreign.put("train.max_steps", most)
    if most > 0 and "num_train_epochs" not in foreign.values:
        foreign.say("max_steps", "train.max_steps; give train.epochs if the data are fewer")
    elif epochs.is_integer():
        foreign.put("train.epochs", int(epochs))
    else:
        why = "passes over the data are whole here"
        foreign.refuse("num_train_epochs", why, instead="train.epochs")
    sampling = foreign.take("train_sampling_strategy", "random", to="data.shuffle")
    if sampling == "random":
        foreign.put("data.shuffle", SHUFFLED)
    elif sampling != "sequential":
        foreign.refuse("train_sampling_strategy", "batches of like lengths are not made here")
    # Checkpointing changes memory and not the update; here it is for models that do not fit.
    for key in ("gradient_checkpointing", "activation_checkpointing"):
        if foreign.take(key, False, to="train.gradient_checkpointing"):
            foreign.put("train.gradient_checkpointing", True)
    if foreign.take("torch_compile", False, to="train.compile"):
        foreign.put("train.compile", True)
    if foreign.take("use_cpu", False, to="train.device"):
        foreign.put("train.device", "cpu")


def _whole(foreign: Foreign, key: str, default: int, *, to: str) -> int:
    """A key's whole number. Raises ValueError for any other value."""
    value = foreign.take(key, default, to=to)
    if float(value) != int(value):
        raise ValueError(f"{key}: got {value}; must be a whole number")
    return int(value)


def _optimiser(foreign: Foreign, defaults: Defaults) -> None:
    rate = foreign.take("learning_rate", defaults.learning_rate, to="train.learning_rate")
    foreign.put("train.learning_rate", float(rate))
    name = foreign.take("optim", "adamw_torch", to="train.optimizer")
    if name in OPTIMIZERS:
        foreign.put("train.optimizer", OPTIMIZERS[name])
        if "8bit" in name:
            foreign.say("optim", "train.optimizer, with its state in 32 bit")
    else:
        foreign.refuse("optim", f"{name} is not here", instead="train.optimizer")
    decay = foreign.take("weight_decay", 0.0, to="train.weight_decay")
    if decay:
        foreign.put("train.weight_decay", float(decay))
    norm = float(foreign.take("max_grad_norm", 1.0, to="train.max_grad_norm", null=0))
    foreign.put("train.max_grad_norm", norm if norm > 0 else None)


def _schedule(foreign: Foreign) -> None:
    name = foreign.take("lr_scheduler_type", "linear", to="train.schedule")
    if name in SCHEDULES:
        foreign.put("train.schedule", SCHEDULES[name])
    else:
        foreign.refuse("lr_scheduler_type", f"{name} is not here", instead="train.schedule")
    steps = float(foreign.take("warmup_steps", 0, to="train.warmup_steps"))
    share = float(foreign.take("warmup_ratio", 0.0, to="train.warmup_steps"))
    if share and steps:
        share = 0.0
        foreign.pass_over("warmup_ratio", "warmup_steps is given")
    key = "warmup_ratio" if share else "warmup_steps"
    if 0 < steps < 1:  # As transformers 5 takes it.
        share, steps = steps, 0
    total = foreign.recipe["train"].get("max_steps")
    if share and total:
        steps = math.ceil(share * total)
    elif share:
        foreign.refuse(key, _warmup(foreign.recipe["train"], share), instead="train.warmup_steps")
    if steps:
        foreign.put("train.warmup_steps", int(steps))


def _warmup(train: Mapping[str, Any], share: float) -> str:
    """How the user finds the steps of which a share is meant."""
    rows = f"rows / {train['batch_size']}"
    steps = f"ceil({rows}) x {train['epochs']} epochs" if "epochs" in train else f"ceil({rows})"
    return (
        "the number of steps follows from the data: train.warmup_steps is "
        f"ceil({share:g} x optimiser steps), and these are {steps}"
    )


def _cadence(foreign: Foreign) -> None:
    """How often is measured and saved."""
    when = str(foreign.take("eval_strategy", "no", to="eval.every"))
    every = foreign.take("eval_steps", None, to="eval.every")
    if when == "steps" and every:
        _every(foreign, "eval_steps", every, "eval.every")
    elif when == "epoch":
        foreign.lose("eval_strategy", "the start and the end are measured; eval.every counts steps")
    if when != "steps":
        foreign.pass_over("eval_steps", f"eval_strategy is {when}")
    saving = str(foreign.take("save_strategy", "steps", to="checkpoint.every"))
    each = foreign.take("save_steps", None, to="checkpoint.every")
    if saving == "steps" and each:
        _every(foreign, "save_steps", each, "checkpoint.every")
    elif saving != "steps":
        foreign.lose("save_strategy", "checkpoints are written every checkpoint.every steps")
        foreign.pass_over("save_steps", f"save_strategy is {saving}")
    if foreign.take("save_total_limit", None, to="checkpoint.keep"):
        keep = _whole(foreign, "save_total_limit", 1, to="checkpoint.keep")
        foreign.put("checkpoint.keep", keep)


def _every(foreign: Foreign, key: str, value: float, to: str) -> None:
    if value >= 1:
        foreign.put(to, int(value))
    else:
        foreign.lose(key, f"a share of all steps; {to} counts steps")


def _trackers(foreign: Foreign) -> None:
    named = foreign.take("report_to", [], to="report_to")
    names = [named] if isinstance(named, str) else list(named)
    known = [name for name in names if name in TRACKERS]
    if known:
        foreign.put("report_to", known)
    if others := [name for name in names if name not in (*TRACKERS, "none")]:
        foreign.lose("report_to", f"{', '.join(others)}; allowed are {', '.join(TRACKERS)}")
