"""The frozen base and the LoRA modules on it: the only door to peft."""

from fastslow.adapters.base import load_base, load_end_ids, load_tokenizer
from fastslow.adapters.modules import BASE, Modules

__all__ = ["BASE", "Modules", "load_base", "load_end_ids", "load_tokenizer"]
