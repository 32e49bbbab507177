"""Who is told what a run does: mappings with `event` and more, which docs/prompts.md lists."""

from collections.abc import Callable, Mapping
from typing import Any

Listener = Callable[[Mapping[str, Any]], None]
"""Is given every event. What it raises ends the run."""


def ignore(event: Mapping[str, Any]) -> None:
    """The listener that does nothing."""
