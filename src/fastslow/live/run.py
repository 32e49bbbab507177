"""Runs a live folder's learner until it is stopped, in one process or in several."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastslow.config import Recipe
from fastslow.feedback import Store, consolidating
from fastslow.live.jobs import Jobs
from fastslow.live.process import Event, LiveLearner
from fastslow.live.watch import Fall
from fastslow.serve.supervised import end_with
from fastslow.training.distributed.processes import ProcessGroup
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
    stop, processes = StopToken(), ProcessGroup(recipe.train.device)

    def signalled(name: str) -> None:
        if processes.rank == 0:
            say(f"{name}: stopping after this update")

    with (
        StopSignals(stop, signalled),
        _opened_in_main(processes, store_url or folder) as store,
    ):
        jobs = Jobs(folder, recipe)
        if store is None:
            jobs.follow(stop)
            return
        with jobs.ending():
            if consolidate:
                found = store.write(consolidating.ask, now=time.time(), by=None)
                say(f"consolidation {found.id}: one student of what answers in all domains")
            learner = LiveLearner(store, folder, recipe, jobs)
            say(f"learning from the votes of {folder}{jobs.company}; Ctrl-C stops")
            if supervisor is not None:
                end_with(supervisor, lambda: stop.stop("the server is gone"))

            def tell(event: Event | Fall) -> None:
                say(str(event))

            if not once:
                learner.run(stop, tell)
                return
            while learner.once(tell, stop) and not stop.received:
                jobs.look(stop)
            with store.read() as connection:
                left = consolidating.wanted(connection)
            if left is not None:
                say(f"consolidation {left.id} waits: {left.why}")


@contextmanager
def _opened_in_main(processes: ProcessGroup, where: str | Path) -> Iterator[Store | None]:
    """The store in the main process, None in the others; all raise why it cannot be opened."""
    opened = list[Store]()
    processes.broadcast_from_main(lambda: opened.append(Store(where)))
    with ExitStack() as stack:
        yield stack.enter_context(opened[0]) if opened else None
