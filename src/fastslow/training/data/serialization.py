"""Facts out of the JSON of a checkpoint."""

from collections.abc import Callable, Mapping
from typing import Any

from fastslow.records import Message


def record(kind: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """An example or a prompt; its provenance is JSON and stays so."""
    facts = {name: frozen(value) for name, value in given.items() if name != "provenance"}
    return kind(**facts, provenance=given["provenance"])


def frozen(value: Any) -> Any:
    """What JSON gave, with tuples for its lists and the turns of conversations as they were."""
    if isinstance(value, list | tuple):
        return tuple(frozen(one) for one in value)
    if isinstance(value, dict):
        if value.keys() == {"role", "content"}:
            return Message(**value)
        return {key: frozen(one) for key, one in value.items()}
    return value
