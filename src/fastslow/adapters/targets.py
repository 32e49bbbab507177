"""Checks that `lora.target_modules` names layers of the base."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from fastslow.errors import ConfigError, did_you_mean


@contextmanager
def checked_targets(base: Any, targets: str | list[str]) -> Iterator[None]:
    """Inside, PEFT puts adapters on the layers that `targets` names.

    Raises ConfigError if a name in a list is that of no layer, which PEFT only refuses if it is so
    for all of them, and for what PEFT refuses.
    """
    names = [name for name, _ in base.named_modules()]
    for target in [] if isinstance(targets, str) else targets:
        if not any(f".{name}".endswith(f".{target}") for name in names):
            near = did_you_mean(target, _linear_layers(base))
            raise _wrong(base, f"no layer is called {target!r}{near}")
    try:
        yield
    except ValueError as error:
        raise _wrong(base, str(error).partition(" Please check")[0].rstrip(".")) from None


def _wrong(base: Any, fault: str) -> ConfigError:
    layers = ", ".join(_linear_layers(base))
    return ConfigError(f"lora.target_modules: {fault}; its linear layers are {layers}")


def _linear_layers(base: Any) -> list[str]:
    """The last parts of the names of the layers that are matrices, each once."""
    head = base.get_output_embeddings()
    layers = {
        name.rpartition(".")[2]: None
        for name, part in base.named_modules()
        if getattr(getattr(part, "weight", None), "ndim", 0) == 2
        and not (isinstance(part, nn.Embedding) or part is head)
    }
    return list(layers)
