"""The frozen base and its LoRA modules, in memory and in the bank. Only this package uses peft."""

from fastslow.adapters.bank import (
    Bank,
    Entry,
    check_one_base,
    folder_name,
    latest_per_domain,
    read_entry,
)
from fastslow.adapters.base import (
    check_quantization,
    load_base,
    load_config,
    load_context_length,
    load_end_ids,
    load_tokenizer,
    num_embeddings_of,
    storage_dtype,
)
from fastslow.adapters.factors import Factors, combine, recompress, without_repeats
from fastslow.adapters.fake_model import fake_modules, meta_modules
from fastslow.adapters.fingerprint import absolute, model_folder
from fastslow.adapters.lora_folder import copy_adapter, rank_of, rename_base
from fastslow.adapters.modules import BASE, Modules
from fastslow.adapters.odd_layers import untouched_experts
from fastslow.adapters.on_base import strip_modules
from fastslow.adapters.revision import at_revision
from fastslow.adapters.rewards import load_reward_model

__all__ = [
    "BASE",
    "Bank",
    "Entry",
    "Factors",
    "Modules",
    "absolute",
    "at_revision",
    "check_one_base",
    "check_quantization",
    "combine",
    "copy_adapter",
    "fake_modules",
    "load_base",
    "load_config",
    "load_context_length",
    "load_end_ids",
    "load_reward_model",
    "load_tokenizer",
    "meta_modules",
    "model_folder",
    "num_embeddings_of",
    "rank_of",
    "read_entry",
    "rename_base",
    "recompress",
    "storage_dtype",
    "strip_modules",
    "untouched_experts",
    "without_repeats",
    "latest_per_domain",
    "folder_name",
]
