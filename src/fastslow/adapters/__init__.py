"""The frozen base and the LoRA modules on it, in memory and in the bank: the only door to peft."""

from fastslow.adapters.bank import Bank, Entry, check_one_base, read_entry, select, slug
from fastslow.adapters.base import load_base, load_context_length, load_end_ids, load_tokenizer
from fastslow.adapters.factors import Factors, combine, recompress
from fastslow.adapters.fake_model import imagining
from fastslow.adapters.modules import BASE, Modules
from fastslow.adapters.rewards import load_reward_model

__all__ = [
    "BASE",
    "Bank",
    "Entry",
    "Factors",
    "Modules",
    "check_one_base",
    "combine",
    "imagining",
    "load_base",
    "load_context_length",
    "load_end_ids",
    "load_reward_model",
    "load_tokenizer",
    "read_entry",
    "recompress",
    "select",
    "slug",
]
