"""What a folder must hold to be a LoRA adapter that can be used here."""

import json
from pathlib import Path

from fastslow.errors import ConfigError

HEAD_KEY = "base_model.model.score.weight"
"""What PEFT calls the head of a sequence classifier."""


CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Initialisations of a module that change the weights of the base."""


def check_lora_folder(folder: Path, *, head: bool = False) -> None:
    """Raise ConfigError unless the folder holds a LoRA adapter in safetensors, and nothing more.

    With `head`, it is that of a reward model.
    """
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(
            f"{folder} holds no adapter: adapter_config.json cannot be read"
        ) from None
    if config.get("peft_type") != "LORA":
        raise ConfigError(f"{folder} holds a {config.get('peft_type')} adapter; only LORA is known")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(CHANGES_BASE):
        raise ConfigError(
            f"{folder} was initialised with init_lora_weights {init}, which changes the base's "
            "weights whenever it is loaded; save it as an ordinary adapter with PEFT's "
            "path_initial_model_for_weight_conversion"
        )
    is_reward = config.get("modules_to_save") == ["score"]
    if is_reward != head:
        raise ConfigError(
            f"{folder} holds a reward model, which cannot generate"
            if is_reward
            else f"{folder} holds an adapter of a policy, which has no head"
        )
    if config.get("modules_to_save") and not is_reward:
        raise ConfigError(
            f"{folder} also replaces whole layers ({', '.join(config['modules_to_save'])}), which "
            "cannot be switched together with modules"
        )
    if not (folder / "adapter_model.safetensors").exists():
        raise ConfigError(f"{folder} has no adapter_model.safetensors; pickled weights are refused")
