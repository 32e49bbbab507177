"""Runs a live folder's learner until it is stopped."""

from collections.abc import Callable
from pathlib import Path

from fastslow.config import Recipe
from fastslow.feedback import Store
from fastslow.live.process import Event, LiveLearner
from fastslow.training.loop.signals import StopSignals, StopToken


def learn(
    folder: Path,
    recipe: Recipe,
    *,
    store_url: str | None,
    once: bool,
    say: Callable[[str], None],
) -> None:
    """Learn from the votes of the store in a folder, or behind a URL.

    Args:
        once: learn what waits now, and return.

    Raises Fenced where another learner begins.
    """
    stop = StopToken()
    with (
        Store(store_url or folder) as store,
        StopSignals(stop, lambda name: say(f"{name}: stopping after this update")),
    ):
        learner = LiveLearner(store, folder, recipe)
        say(f"learning from the votes of {folder}; Ctrl-C stops")

        def tell(event: Event) -> None:
            say(str(event))

        if not once:
            learner.run(stop, tell)
            return
        while learner.once(tell, stop) and not stop.received:
            pass
