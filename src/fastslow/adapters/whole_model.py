"""Checks that a library loads the whole model that a folder names, or raises one clear error."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from fastslow.errors import ConfigError, FastslowError

OWN_CODE = (
    "it brings Python code of its own, which is not run unasked; if you know the code, set "
    "trust_remote_code in the recipe, or, where a run folder is opened, give --trust-code (in "
    "Python trust_code=True)"
)
LONGEST_CAUSE = 400
"""Characters shown of a library's message."""
SHOWN = 3
"""Weights named if many are wrong."""
COMPILED = "_orig_mod."
"""Prefix of the names of weights that were saved from a compiled model."""


@contextmanager
def one_error(what: str, fails: str = "cannot be loaded") -> Iterator[None]:
    """Inside, whatever the libraries raise becomes one ConfigError: `what` `fails`.

    They raise nearly every kind of exception, tokenizers even `Exception` itself.
    """
    try:
        yield
    except (FastslowError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"{what} {fails}: {_cause(error)}") from None


def _cause(error: Exception) -> str:
    """An exception's message on one line, with its type if the message alone is no sentence."""
    message = " ".join(str(error).split())
    if "trust_remote_code" in message:
        return OWN_CODE
    if len(message) > LONGEST_CAUSE:
        message = f"{message[:LONGEST_CAUSE]}…"
    if isinstance(error, (OSError, ValueError, ImportError)) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def check_no_adapter(model: str) -> None:
    """Raise ConfigError if a base's folder holds an adapter, which transformers would load with
    it."""
    folder = Path(model)
    if not (folder / "adapter_config.json").exists():
        return
    if (folder / "config.json").exists():
        raise ConfigError(adapter_beside(model))
    raise ConfigError(
        f"model: {model} is a LoRA adapter; set model to its base, which adapter_config.json "
        f"names in base_model_name_or_path, and lora.start_from to {model}"
    )


def adapter_beside(model: str) -> str:
    """The error message for a model with an adapter in its folder."""
    return (
        f"model: {model} holds a LoRA adapter beside the model (adapter_config.json), so what is "
        "loaded is neither the base nor what is trained; move the adapter's two files to a folder "
        "of their own and set lora.start_from to it, or merge them with PEFT's merge_and_unload"
    )


def check_whole(what: str, found: Mapping[str, Any], *, but: tuple[str, ...] = ()) -> None:
    """Raise ConfigError unless a model's weights and those in its files are the same set.

    Transformers fills missing weights with random numbers and continues.

    Args:
        what: names the model in the message.
        found: transformers' `output_loading_info`, after what the model ties and ignores.
        but: prefixes of weights that may be missing or left over.
    """
    missing, unexpected = (
        sorted(key for key in found[kind] if not key.startswith(but))
        for kind in ("missing_keys", "unexpected_keys")
    )
    shapes = sorted(
        f"{key} {_size(shape)}, where the configuration says {_size(wanted)}"
        for key, shape, wanted in found["mismatched_keys"]
    )
    faults = [
        f"lacks {_some(missing)}" if missing else "",
        f"holds {len(unexpected)} that the configuration has no place for: {_named(unexpected)}"
        if unexpected
        else "",
        f"has another shape in {_some(shapes)}" if shapes else "",
    ]
    message = "; it ".join(filter(None, faults))
    if not message:
        return
    if unexpected and all(key.startswith(COMPILED) for key in unexpected):
        message = (
            f"was saved from a compiled model: its weights are called {unexpected[0]} and so on"
        )
        advice = "save the model inside it (model._orig_mod.save_pretrained)"
    else:
        advice = "restore the folder's weights and config.json, which belong together"
    raise ConfigError(f"{what} is not whole: of its weights it {message}; {advice}")


def check_finite(what: str, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise ConfigError naming the first tensor with a number that is not finite."""
    for name, tensor in tensors:
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        # The sum is one number, without a copy of the tensor. It may overflow if all are finite.
        if not tensor.sum(dtype=torch.float32).isfinite() and not tensor.isfinite().all():
            raise ConfigError(
                f"{what} holds numbers that are not finite, in {name}; restore its weights"
            )


def _some(names: list[str]) -> str:
    return f"{len(names)} of those that the configuration asks for: {_named(names)}"


def _named(names: list[str]) -> str:
    more = ["..."] if len(names) > SHOWN else []
    return ", ".join([*islice(names, SHOWN), *more])


def _size(shape: Collection[int]) -> str:
    return f"({' x '.join(map(str, shape))})"
