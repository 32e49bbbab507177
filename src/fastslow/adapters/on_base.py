"""Puts modules from folders on a base, and takes all modules off it."""

from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from fastslow.adapters.fingerprint import check_base
from fastslow.adapters.lora_folder import check_all_loaded
from fastslow.adapters.lora_layers import parameters_of
from fastslow.adapters.whole_model import check_finite, one_error


def put_on(model: Any, name: str, folder: Path, base: Any) -> Any:
    """The model, made on the base if None, with the module of a PEFT folder that was checked."""
    with one_error(f"adapter {folder}", "does not fit the base model"):
        config = PeftConfig.from_pretrained(str(folder))
        check_base(folder, config.auto_mapping, base)
        config.modules_to_save = None  # The causal LM has no place for a head.
        if model is None:
            model = PeftModel.from_pretrained(base, str(folder), adapter_name=name, config=config)
        else:
            model.load_adapter(str(folder), adapter_name=name, peft_config=config)
    check_all_loaded(model, name, folder)
    check_finite(f"adapter {folder}", parameters_of(model, name).items())
    return model


def strip_modules(base: Any) -> None:
    """Take all LoRA modules off a base; its own weights are as before."""
    for name, layer in list(base.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            above, _, child = name.rpartition(".")
            setattr(base.get_submodule(above), child, layer.get_base_layer())
    if hasattr(base, "peft_config"):
        del base.peft_config
