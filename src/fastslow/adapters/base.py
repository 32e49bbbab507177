"""The frozen base model and its tokenizer, from a folder or a hub id. Safetensors only."""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
)
from transformers.quantizers.auto import AutoHfQuantizer

from fastslow.adapters.fingerprint import OF_BASE, base_weights, model_folder
from fastslow.adapters.revision import OF_REVISION, at_revision
from fastslow.adapters.whole_model import (
    adapter_beside,
    check_finite,
    check_no_adapter,
    check_whole,
    one_error,
)
from fastslow.errors import ConfigError
from fastslow.hub import why_not_on_hub

Precision = Literal["float32", "mixed", "bfloat16", "auto"]


def load_tokenizer(model: str, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer in a model folder. Raises ConfigError when there is none."""
    _check_folder(model)
    name, revision = at_revision(model)
    with one_error(f"model: the tokenizer in {model}"):
        return AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )


def load_end_ids(model: str) -> list[int]:
    """Tokens that end a turn according to the model's generation settings, or else its
    configuration; empty if neither names any. Raises ConfigError for damaged settings.
    """
    name, revision = at_revision(model)
    try:
        ids = GenerationConfig.from_pretrained(name, revision=revision or "main").eos_token_id
    except OSError:  # The settings are missing or cannot be read.
        if (Path(model) / "generation_config.json").exists():
            raise ConfigError(f"model: {model}/generation_config.json cannot be read") from None
        ids = None
    if ids is None:
        # Read from the file, as the class's default is an id of another vocabulary.
        with one_error(f"model: the configuration in {model}"):
            config = PreTrainedConfig.get_config_dict(name, revision=revision)[0]
            ids = (config.get("text_config", {}) | config).get("eos_token_id")
    return listed_ids(ids)


def listed_ids(named: int | list[int] | None) -> list[int]:
    """Token ids as a list, as a configuration may name one, several or none."""
    return [] if named is None else [named] if isinstance(named, int) else list(named)


def load_context_length(model: str, *, trust_remote_code: bool = False) -> int | None:
    """Context length of the model according to its configuration; None if it does not define one.

    Raises ConfigError without a configuration.
    """
    return context_length_of(load_config(model, trust_remote_code=trust_remote_code))


def load_config(model: str, *, trust_remote_code: bool = False) -> Any:
    """The model's configuration. Raises ConfigError if there is none, or of an unknown kind."""
    _check_folder(model)
    name, revision = at_revision(model)
    with one_error(f"model: {model}"):
        return AutoConfig.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )


def context_length_of(config: Any) -> int | None:
    """Context length according to a model's configuration; None if it does not define one."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def num_embeddings_of(config: Any) -> int | None:
    """Rows of a model's embedding according to its configuration; None if not defined there."""
    return getattr(config.get_text_config(), "vocab_size", None)


def check_quantization(config: Any) -> None:
    """Raise ConfigError if weights that are stored quantised cannot be read on this machine."""
    kind = getattr(config, "quantization_config", None)
    if kind is not None:
        with one_error(f"model: {config.name_or_path}"):
            quantizer: Any = AutoHfQuantizer.from_config(kind, pre_quantized=True)
            quantizer.validate_environment(device_map=None)


def load_base(
    model: str,
    *,
    precision: Precision = "float32",
    load_in_4bit: bool = False,
    trust_remote_code: bool = False,
    device: torch.device | None = None,
) -> Any:
    """The causal LM, frozen and in evaluation mode; without values on the device `meta`.

    Raises ConfigError if the folder does not hold the whole model that its configuration names,
    holds only pickled weights, or also holds an adapter.
    """
    _check_folder(model)
    extra: dict[str, Any] = {"quantization_config": _four_bit()} if load_in_4bit else {}
    if device is not None and device.type == "meta":
        extra["device_map"] = device
    name, revision = at_revision(model)
    with one_error(f"model: {model}"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision,
            dtype=storage_dtype(precision),
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # So that the error names them all.
            **extra,
        )
    base, info = loaded
    if getattr(base, "_hf_peft_config_loaded", False):  # For a hub id it is known only now.
        raise ConfigError(adapter_beside(model))
    check_whole(f"model: {model}", info)
    check_finite(f"model: {model}", base.named_parameters())
    setattr(base, OF_BASE, base_weights(model))
    setattr(base, OF_REVISION, revision)
    if device is not None and not load_in_4bit:
        base = base.to(device)
    base.requires_grad_(False)
    return base.eval()


def storage_dtype(precision: Precision) -> torch.dtype:
    """Dtype of the base's weights."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _check_folder(model: str) -> None:
    """Raise ConfigError unless a base can be opened: a model's folder, or a hub id that is cached
    or that the Hub has."""
    name, revision = at_revision(model)
    folder = Path(name)
    if folder.is_file():
        raise ConfigError(f"model: {model} is a file; give the model's folder")
    if folder.is_dir():
        check_no_adapter(model)
        if not (folder / "config.json").exists():
            raise ConfigError(f"model: no config.json in {model}, so it is not a model")
        return
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise ConfigError(f"model: folder {model} does not exist")
    # One request first, as transformers retries each file, which takes a minute.
    if model_folder(model) is None and (why := why_not_on_hub(name, revision)):
        raise ConfigError(f"model: {model}: no such folder here, and {why}")


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
