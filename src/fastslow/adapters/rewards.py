"""Reward models: a sequence classifier in a folder, or a LoRA module with a head on its base.

What `Modules.save` writes of a module with a head is PEFT's folder of a sequence classifier, so
that both are opened the same way, and by anybody.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification

from fastslow.adapters.base import load_tokenizer
from fastslow.errors import ConfigError


def load_reward_model(
    folder: str,
    *,
    base: str | None = None,
    trust_remote_code: bool = False,
    device: torch.device | None = None,
) -> tuple[Any, Any]:
    """The classifier, frozen and in evaluation mode, and its tokenizer.

    Args:
        folder: a model folder, a hub id, or a PEFT folder.
        base: of a PEFT folder; by default where it says.

    Raises ConfigError where none can be loaded in safetensors, or it has more than two labels.
    """
    adapter = Path(folder) / "adapter_config.json"
    if adapter.exists():
        base = base or json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
        if not (adapter.parent / "adapter_model.safetensors").exists():
            raise ConfigError(
                f"{folder} has no adapter_model.safetensors; pickled weights are refused"
            )
    base = base or folder
    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    labels = {"num_labels": 1} if adapter.exists() else {}
    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            base, use_safetensors=True, trust_remote_code=trust_remote_code, **labels
        )
        if adapter.exists():
            model = PeftModel.from_pretrained(model, folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"no reward model can be loaded from {folder}: {error}") from None
    if model.config.num_labels > 2:
        raise ConfigError(
            f"{folder} has {model.config.num_labels} labels; a reward model has one, or "
            "two with the preferred one second"
        )
    if device is not None:
        model = model.to(device)
    return model.requires_grad_(False).eval(), tokenizer
