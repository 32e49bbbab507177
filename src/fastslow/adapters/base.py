"""The frozen base model and its tokenizer, from a folder or a hub id. Safetensors only."""

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from fastslow.errors import ConfigError

Precision = Literal["float32", "mixed", "bfloat16"]


def load_tokenizer(model: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a model folder. Raises ConfigError when there is none."""
    _check_exists(model)
    try:
        return AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model: no tokenizer can be loaded from {model}: {error}") from None


def load_end_ids(model: str) -> list[int]:
    """Tokens that end a turn according to the model's generation settings; none if it has none."""
    try:
        named = GenerationConfig.from_pretrained(model).eos_token_id
    except (OSError, ValueError):
        return []
    return listed_ids(named)


def listed_ids(named: int | list[int] | None) -> list[int]:
    """Tokens as a list, where a configuration may name one, several or none."""
    return [] if named is None else [named] if isinstance(named, int) else list(named)


def load_context_length(model: str, *, trust_remote_code: bool = False) -> int | None:
    """Context length of the model according to its configuration; None if it does not define one.

    Raises ConfigError without a configuration.
    """
    _check_exists(model)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model: {model} cannot be loaded: {error}") from None
    return context_length_of(config)


def context_length_of(config: Any) -> int | None:
    """Context length according to a model's configuration; None if it does not define one."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def load_base(
    model: str,
    *,
    precision: Precision = "float32",
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
    device: torch.device | None = None,
) -> Any:
    """The causal LM, frozen and in evaluation mode.

    Raises ConfigError when the folder holds no such model, or only pickled weights.
    """
    _check_exists(model)
    extra = {"quantization_config": _four_bit()} if load_in_4bit else {}
    try:
        base: Any = AutoModelForCausalLM.from_pretrained(
            model,
            dtype=storage_dtype(precision),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            **extra,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"model: {model} cannot be loaded: {error}") from None
    if device is not None and not load_in_4bit:
        base = base.to(device)
    base.requires_grad_(False)
    return base.eval()


def storage_dtype(precision: Precision) -> torch.dtype:
    """Dtype of the base's weights."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _check_exists(model: str) -> None:
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model
    if looks_local and not Path(model).is_dir():
        raise ConfigError(f"model: folder {model} does not exist")


def _four_bit() -> Any:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ConfigError("load_in_4bit: needs bitsandbytes, which is not installed")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
