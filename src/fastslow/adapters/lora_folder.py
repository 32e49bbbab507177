"""Checks of the LoRA adapter in a folder, and copies of it."""

import json
import shutil
from pathlib import Path
from typing import Any

from peft.utils import get_peft_model_state_dict
from safetensors import safe_open

from fastslow.adapters.revision import at_revision
from fastslow.adapters.whole_model import one_error
from fastslow.atomic_io import write_text
from fastslow.errors import ConfigError, StateError
from fastslow.foreign_files import misfit, read_json

FILES = ("adapter_config.json", "adapter_model.safetensors")
"""The files of an adapter."""

HEAD_KEY = "base_model.model.score.weight"
"""PEFT's name of a sequence classifier's head."""
CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Initialisations of a module that change the weights of the base."""


MORE_THAN_LAYERS = (
    "lora_bias", "layer_replication", "alora_invocation_tokens", "trainable_token_indices",
    "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config",
)  # fmt: skip
"""Settings of variants that cannot be switched, merged and exported like updates of layers."""
NOT_SUMMED = ("use_dora", "target_parameters")
"""Settings of variants that can, but whose update is not a product of two factors per layer."""
SHAPES: dict[str, Any] = {
    "r": int, "lora_alpha": float, "bias": str, "target_modules": str | list[str] | None,
    "modules_to_save": list[str] | None, "base_model_name_or_path": str | None,
    "rank_pattern": dict[str, int] | None, "alpha_pattern": dict[str, float] | None,
}  # fmt: skip
"""Types of an adapter's settings, where they are given."""
PARTS = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector")
"""Suffixes of the names of an adapter's weights; the last one is DoRA's."""


def copy_adapter(folder: Path, to: Path) -> None:
    """Copy the two files of a PEFT adapter, and nothing else, to a folder, created if needed."""
    to.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (folder / name).is_file():
            raise StateError(f"{folder / name} is missing; restore it")
        shutil.copyfile(folder / name, to / name)


def rename_base(folder: Path, base: str | None) -> None:
    """Set the base that an adapter's configuration names, at its revision if it has one; None
    names none."""
    path = folder / FILES[0]
    name, revision = (None, None) if base is None else at_revision(base)
    named = {"base_model_name_or_path": name, "revision": revision}
    write_text(path, json.dumps(read_json(path, dict[str, Any]) | named, indent=2, sort_keys=True))


def check_lora_folder(folder: Path, *, head: bool = False, summed: bool = False) -> None:
    """Raise ConfigError unless the folder holds a LoRA adapter in safetensors, and nothing more.

    With `head`, it must be a reward model's. With `summed`, each update must be a product of two
    factors of a layer.
    """
    path = folder / "adapter_config.json"
    if not path.exists():
        raise ConfigError(f"{folder} holds no adapter: there is no {path.name} in it")
    config = read_json(path, dict[str, Any], error=ConfigError)
    for key, shape in SHAPES.items():
        if key in config and (fault := misfit(config[key], shape, repr(key))):
            raise ConfigError(f"{path} is damaged: {fault}; restore it")
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
    refused = [key for key in MORE_THAN_LAYERS if config.get(key)]
    if config.get("bias", "none") != "none":
        refused.append("bias")
    refused += [key for key in NOT_SUMMED if summed and config.get(key)]
    if refused:
        raise ConfigError(
            f"{folder} is not plain LoRA ({', '.join(refused)}), so its effect is more than a "
            "product of two factors of each layer and cannot be "
            + ("summed" if summed else "switched and merged here")
            + "; merge it into its base with PEFT, or train an adapter without"
        )
    if others := [key for key in _weights(folder) if not key.endswith(PARTS) and key != HEAD_KEY]:
        raise ConfigError(
            f"{folder} holds more than updates of linear layers: {min(others)}. Embeddings, "
            "biases and whole layers cannot be switched together with modules; leave "
            "embed_tokens and the like out of its target_modules"
        )


def rank_of(folder: Path) -> int:
    """The largest rank of an adapter's updates, for which an engine must have room.

    Raises ConfigError if it is not plain LoRA, as engines serve no other kind.
    """
    check_lora_folder(folder, summed=True)
    config = read_json(folder / FILES[0], dict[str, Any], error=ConfigError)
    return max(int(rank) for rank in (config["r"], *(config.get("rank_pattern") or {}).values()))


def _weights(folder: Path) -> list[str]:
    """The names of an adapter's weights."""
    path = folder / "adapter_model.safetensors"
    if not path.exists():
        raise ConfigError(f"{folder} has no adapter_model.safetensors; pickled weights are refused")
    with one_error(f"{folder}: adapter_model.safetensors"), safe_open(path, "pt") as file:
        return list(file.keys())


def check_has_head(folder: Path) -> None:
    """Raise ConfigError unless a classifier's adapter, in safetensors, includes the head."""
    names = {part for key in _weights(folder) for part in key.split(".")}
    if not names & {"score", "classifier"}:
        raise ConfigError(
            f"{folder} holds an adapter without the head of a reward model, whose scores would be "
            "random; give one of fastslow train-reward, or of PEFT's task_type SEQ_CLS"
        )


def check_all_loaded(model: Any, name: str, folder: Path) -> None:
    """Raise ConfigError unless a model's adapter has loaded exactly the weights in its folder.

    PEFT only warns about unmatched weights and leaves the module without effect.
    """
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    unmatched = (set(_weights(folder)) ^ set(state)) - {HEAD_KEY}
    if unmatched:
        raise ConfigError(
            f"adapter {folder} was made for another base model: {min(unmatched)} and "
            f"{len(unmatched) - 1} more weights have no counterpart"
        )
