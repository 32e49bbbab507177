"""Writes one module of a model as an ordinary PEFT folder."""

from copy import copy
from pathlib import Path
from typing import Any

from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from fastslow.adapters.fingerprint import FIELD, OF_BASE, absolute
from fastslow.adapters.lora_folder import HEAD_KEY
from fastslow.atomic_io import make_empty
from fastslow.foreign_files import ADAPTER_WEIGHTS


def write_module(model: Any, name: str, folder: Path, *, head: Tensor | None = None) -> None:
    """Write a module of a PEFT model to a folder, created if needed; it must be empty.

    With a head, [1, d], it is a sequence classifier with one label.
    """
    make_empty(folder)
    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    config = copy(model.peft_config[name])
    assert isinstance(config, LoraConfig)
    if head is not None:
        tensors[HEAD_KEY] = head.detach().cpu().clone()
        config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        # A set's order differs between processes; the same module must give the same file.
        config.target_modules = sorted(config.target_modules)
    base = model.get_base_model()
    config.base_model_name_or_path = absolute(base.name_or_path) or None
    trained_on = getattr(base, OF_BASE, None)
    config.auto_mapping = {FIELD: trained_on} if trained_on else None
    config.save_pretrained(str(folder))
