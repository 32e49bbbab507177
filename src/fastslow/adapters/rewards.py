"""Reward models: a sequence classifier in a folder, or a LoRA module with a head on its base.

`Modules.save` writes a module with a head as PEFT's folder of a sequence classifier, so that both
are opened the same way, by other libraries too.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForSequenceClassification

from fastslow.adapters.base import load_tokenizer
from fastslow.adapters.fingerprint import OF_BASE, base_weights, check_base
from fastslow.adapters.lora_folder import check_all_loaded, check_has_head
from fastslow.adapters.revision import at_revision
from fastslow.adapters.whole_model import check_finite, check_whole, one_error
from fastslow.errors import ConfigError
from fastslow.foreign_files import read_json

HEADS = ("score.", "classifier.", "lm_head.")
"""Prefixes of heads' names: an adapter brings the classifier's head, and the causal LM's is not
used."""


def _base_of(adapter: Path) -> str:
    """The base that an adapter's configuration names."""
    config = read_json(adapter, dict[str, Any], error=ConfigError)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str):
        raise ConfigError(f"{adapter} names no base_model_name_or_path; restore it")
    return f"{base}@{revision}" if revision and not Path(base).exists() else base


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
        base: of a PEFT folder; by default the one it names.

    Raises ConfigError if it cannot be loaded from safetensors, whole and with its head, or has more
    than two labels.
    """
    adapter = Path(folder) / "adapter_config.json"
    has_adapter = adapter.exists()
    if has_adapter:
        check_has_head(adapter.parent)
        base = base or _base_of(adapter)
    base = base or folder
    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    name, revision = at_revision(base)
    with one_error(f"judge: a reward model in {folder}"):
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            name,
            revision=revision,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # So that the error names them all.
            **({"num_labels": 1} if has_adapter else {}),
        )
        model, info = loaded
        check_whole(f"judge: the reward model {base}", info, but=HEADS if has_adapter else ())
        if has_adapter:
            config = PeftConfig.from_pretrained(folder)
            setattr(model, OF_BASE, base_weights(base))
            check_base(adapter.parent, config.auto_mapping, model)
            model = PeftModel.from_pretrained(model, folder)
            check_all_loaded(model, "default", Path(folder))
    check_finite(f"judge: the reward model {folder}", model.named_parameters())
    if model.config.num_labels > 2:
        raise ConfigError(
            f"{folder} has {model.config.num_labels} labels; a reward model has one, or "
            "two with the preferred one second"
        )
    if device is not None:
        model = model.to(device)
    return model.requires_grad_(False).eval(), tokenizer
