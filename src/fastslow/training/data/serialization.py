"""Converts examples to the JSON of a checkpoint and back."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from fastslow.records import Demonstration, Message, Pair, Ranking, Rating
from fastslow.scoring import Encoded, Tree

AS_JSON = ("provenance", "template_kwargs")
"""Fields whose JSON is kept as it is."""

KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Pair, Ranking, Rating, Demonstration)}


def example_from_json(kind: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """An example or a prompt from its fields."""
    return kind(
        **{name: value if name in AS_JSON else to_tuples(value) for name, value in values.items()}
    )


def to_tuples(value: Any) -> Any:
    """JSON with tuples in place of its lists and `Message` in place of conversation turns."""
    if isinstance(value, list | tuple):
        return tuple(to_tuples(item) for item in value)
    if isinstance(value, dict):
        if value.keys() - {"extra"} == {"role", "content"}:
            return Message(**value)
        return {key: to_tuples(item) for key, item in value.items()}
    return value


def encoded_to_json(item: Encoded) -> dict[str, Any]:
    """An encoded example that has not been learned from yet, for a checkpoint."""
    return {
        "kind": type(item.example).__name__,
        "example": asdict(item.example),
        "tree": asdict(item.tree),
        "truncated": item.truncated,
        "sampled": item.sampled,
        "of_tokens": item.of_tokens,
    }


def encoded_from_json(values: Mapping[str, Any]) -> Encoded:
    """The encoded example that `encoded_to_json` was given."""
    return Encoded(
        example_from_json(KINDS[values["kind"]], values["example"]),
        Tree(**to_tuples(values["tree"])),
        truncated=values["truncated"],
        sampled=to_tuples(values["sampled"]),
        of_tokens=to_tuples(values["of_tokens"]),
    )
