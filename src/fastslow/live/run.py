"""Runs a live folder's learner until stopped, in one process or several."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fastslow.config import LiveConfig, Recipe
from fastslow.errors import StateError
from fastslow.feedback import Store, consolidating, ledger, planning, voting
from fastslow.feedback.store import FILE
from fastslow.live.jobs import Jobs
from fastslow.live.process import Event, LiveLearner
from fastslow.live.watch import Fall
from fastslow.orphans import end_with
from fastslow.streams import fault_of
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
    """Learn from the votes of the store in a folder, or at a URL.

    Args:
        once: learn what waits now, then return.
        consolidate: first request a student of what answers in all domains.
        supervisor: the parent process; the learner ends with it.

    Raises Fenced if another learner begins, Malformed if there is nothing to consolidate.
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
                consolidation = store.write(consolidating.ask, now=time.time(), by=None)
                say(f"consolidation {consolidation.id}: one student of all domains")
            learner = LiveLearner(store, folder, recipe, jobs)
            say(f"learning from the votes in {folder}{jobs.company}; Ctrl-C stops")
            if supervisor is not None:
                end_with(supervisor, lambda: stop.stop("the server is gone"))

            def tell(event: Event | Fall) -> None:
                say(str(event))

            if not once:
                learner.run(stop, tell)
                return
            _admit(store)
            decided = 0
            while (done := learner.once(tell, stop)) and not stop.received:
                decided += done
                jobs.look(stop)
            say(_left(store, decided + done, recipe.live or LiveConfig()))
            with store.read() as connection:
                pending = consolidating.wanted(connection)
            if pending is not None:
                say(f"consolidation {pending.id} waits: {pending.why}")


def _admit(store: Store) -> None:
    """Admit votes to the ledger, as the server would; it may be gone."""
    while store.write(ledger.admit, now=time.time(), check=fault_of).more:
        pass


def _left(store: Store, decided: int, live: LiveConfig) -> str:
    """What learning once decided and left, as a message."""
    with store.read() as connection:
        domains = planning.domains(connection)
        rows = sum(len(planning.waiting(connection, domain)) for domain in domains)
        early = ledger.not_admitted(connection)
    updates = f"{decided} update{'' if decided == 1 else 's'} decided"
    wait = f"{rows} row{'' if rows == 1 else 's'} wait for more, at most {live.max_wait_s:g} s"
    graced = (
        f"; {early} sent in the last {voting.GRACE:g} s can still be taken back" if early else ""
    )
    return f"{updates}; {wait}{graced}"


@contextmanager
def _opened_in_main(processes: ProcessGroup, where: str | Path) -> Iterator[Store | None]:
    """The store in the main process, None in the others; all raise if it cannot be opened."""
    opened = list[Store]()

    def open_it() -> None:
        if isinstance(where, Path) and not (where / FILE).is_file():
            raise StateError(f"{where} holds no votes ({FILE}); start fastslow serve {where} first")
        opened.append(Store(where))

    processes.broadcast_from_main(open_it)
    with ExitStack() as stack:
        yield stack.enter_context(opened[0]) if opened else None
