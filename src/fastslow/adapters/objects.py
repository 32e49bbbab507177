"""Models and LoRA settings that a user hands over as Python objects."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from fastslow.errors import ConfigError

TAKEN = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
"""Settings taken from PEFT's LoraConfig, with the recipe's keys; besides `target_modules`."""
OF_NO_EFFECT = ("peft_type", "task_type", "inference_mode", "base_model_name_or_path", "revision")
"""Settings that do not change a causal LM's adapter."""
PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def lora_settings(config: Any) -> dict[str, Any]:
    """The recipe's `lora` section for a LoraConfig of PEFT, or for a mapping of its settings.

    Raises ConfigError if it is something else, or sets anything that would be ignored.
    """
    if isinstance(config, Mapping):
        try:
            config = LoraConfig(**config)
        except TypeError as error:
            raise ConfigError(f"peft_config: {error}") from None
    if type(config) is not LoraConfig:
        raise ConfigError(
            f"peft_config: got {type(config).__name__}; give a peft.LoraConfig, of which r, "
            "lora_alpha, lora_dropout and target_modules are used"
        )
    default = LoraConfig()
    changed = [
        f.name
        for f in fields(config)
        if f.name not in (*TAKEN, *OF_NO_EFFECT, "target_modules")
        and getattr(config, f.name) != getattr(default, f.name)
    ]
    if str(config.task_type or "CAUSAL_LM").rpartition(".")[2] != "CAUSAL_LM":
        changed.append("task_type")
    if changed:
        raise ConfigError(
            f"peft_config: {', '.join(changed)} would have no effect; fastslow uses r, lora_alpha, "
            "lora_dropout and target_modules. Leave the others at PEFT's defaults"
        )
    section = {key: getattr(config, name) for name, key in TAKEN.items()}
    if config.target_modules is not None:
        targets = config.target_modules
        section["target_modules"] = targets if isinstance(targets, str) else sorted(targets)
    return section


def check_model(model: Any) -> None:
    """Raise ConfigError for a model object that cannot carry modules."""
    if isinstance(model, PeftModel):
        raise ConfigError(
            "model: is a PeftModel; give the base model (model.unload() or get_base_model()) and "
            "its adapter as start_from=FOLDER after model.save_pretrained(FOLDER)"
        )
    if not hasattr(model, "get_input_embeddings") or not hasattr(model, "generate"):
        raise ConfigError(
            f"model: got {type(model).__name__}; give a causal LM of transformers, a folder, or a "
            "hub id"
        )
    if any(isinstance(layer, BaseTunerLayer) for layer in model.modules()):
        raise ConfigError(
            "model: carries LoRA modules already; call unload() of the learner that put them "
            "there, or give another copy of the model"
        )


def precision_of(model: Any) -> str:
    """The recipe's `train.precision` for a model object. Raises ConfigError for other types."""
    dtype = model.get_input_embeddings().weight.dtype
    if dtype not in PRECISIONS:
        raise ConfigError(
            f"model: is in {str(dtype).removeprefix('torch.')}; load it in float32 or bfloat16"
        )
    return PRECISIONS[dtype]


def facts_of(model: Any) -> dict[str, Any]:
    """Facts that a checkpoint stores about its base model."""
    base = [p for name, p in model.named_parameters() if "lora_" not in name]
    return {"architecture": type(model).__name__, "parameters": sum(p.numel() for p in base)}
