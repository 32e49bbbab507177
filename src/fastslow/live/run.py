"""Runs a live folder's learner until it is stopped."""

import time
from collections.abc import Callable
from pathlib import Path

from fastslow.config import Recipe
from fastslow.feedback import Store, consolidating
from fastslow.live.process import Event, LiveLearner
from fastslow.live.watch import Fall
from fastslow.serve.supervised import end_with
from fastslow.training.loop.signals import StopSignals, StopToken


def learn(
    folder: Path,
    recipe: Recipe,
    *,
    store_url: str | None,
    once: bool,
    consolidate: bool = False,
    supervisor: int | None = None,
    say: Callable[[str], None],
) -> None:
    """Learn from the votes of the store in a folder, or behind a URL.

    Args:
        once: learn what waits now, and return.
        consolidate: first want a student of what answers in all domains.
        supervisor: the parent process, without which it ends.

    Raises Fenced where another learner begins, Malformed where there is nothing to consolidate.
    """
    stop = StopToken()
    with (
        Store(store_url or folder) as store,
        StopSignals(stop, lambda name: say(f"{name}: stopping after this update")),
    ):
        if consolidate:
            found = store.write(consolidating.ask, now=time.time(), by=None)
            say(f"consolidation {found.id}: one student of what answers in all domains")
        learner = LiveLearner(store, folder, recipe)
        say(f"learning from the votes of {folder}; Ctrl-C stops")

        def tell(event: Event | Fall) -> None:
            say(str(event))

        if not once:
            if supervisor is not None:
                end_with(supervisor, lambda: stop.stop("the server is gone"))
            learner.run(stop, tell)
            return
        while learner.once(tell, stop) and not stop.received:
            pass
        with store.read() as connection:
            left = consolidating.wanted(connection)
        if left is not None:
            say(f"consolidation {left.id} waits: {left.why}")
