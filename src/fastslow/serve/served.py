"""Which adapter answers in each domain: what the store's routes say, loaded before it is asked."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastslow.atomic_io import file_hash
from fastslow.errors import FastslowError, StateError
from fastslow.feedback.places import adapter_folder
from fastslow.feedback.updates import Served as Wanted
from fastslow.feedback.updates import Update
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.serve.engine.requests import BASE
from fastslow.serve.probing import check_probes

if TYPE_CHECKING:
    from fastslow.serve.answering import Engine

TRIES_EVERY = 30.0
"""Seconds until an adapter that could not be loaded is tried once more: a shared folder may be
late."""
log = logging.getLogger(__name__)


def in_a_thread(work: Callable[[], None]) -> None:
    """Have work done that nobody waits for, at a server's end neither."""
    threading.Thread(target=work, name="unloading", daemon=True).start()


class Served:
    """Adapters of updates, in an engine.

    Args:
        folder: the live folder.
        clock: seconds.
        beside: has adapters unloaded, each of which waits for its last answer.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        beside: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        self._folder, self._clock, self._beside = folder, clock, beside
        self._routes: Mapping[str, str] = {}
        """The adapter that answers, by domain; BASE where everything was undone."""
        self._before: Mapping[str, str] = {}
        """The one before it."""
        self._loaded: dict[str, int] = {}
        """Updates by their adapters, those that answered before among them."""
        self._refused: dict[str, float] = {}
        """When adapters that could not be loaded are tried again."""
        self._leaving: set[str] = set()
        """Adapters that are not asked any more, and give their last answers."""

    def model_for(self, domain: str) -> str | None:
        """What answers in a domain; None where no update ever did."""
        return self._routes.get(domain)

    def before(self, domain: str) -> str | None:
        """What answered in a domain before what answers now, if the engine still has it."""
        return self._before.get(domain)

    def update_of(self, model: str) -> int | None:
        """The update that made an adapter."""
        return self._loaded.get(model)

    def follow(self, engine: "Engine", wanted: Iterable[Wanted]) -> None:
        """Have the engine answer with what the store says: what is new is loaded and then asked,
        what was asked before it is there too, for a rollback, and what was before that is unloaded.

        An adapter that is not what was tested, that the engine refuses, or that does not say there
        what it said to the learner, is not asked; the one before it answers on, and the log says
        so.
        """
        routes, before, kept = dict[str, str](), dict[str, str](), set[str]()
        for one in wanted:
            name = self._ready(engine, one.now)
            own = self._ready(engine, one.before)
            if own is not None and one.now is not None and name is not None:
                before[one.domain] = own
            if name is None:
                name = self._routes.get(one.domain, BASE)
            routes[one.domain] = name
            kept |= {name} if own is None else {name, own}
        self._routes, self._before = routes, before
        for name in set(self._loaded) - kept:
            del self._loaded[name]
            self._let_go(engine, name)

    def _ready(self, engine: "Engine", update: Update | None) -> str | None:
        """The name of an update's adapter once the engine has it; None where it cannot."""
        if update is None or update.adapter is None:
            return BASE
        if update.adapter in self._loaded:
            return update.adapter
        if self._clock() < self._refused.get(update.adapter, 0.0):
            return None
        if update.adapter in self._leaving:
            return None  # It is loaded again once it is gone.
        folder = adapter_folder(self._folder, update.adapter)
        try:
            if file_hash(folder / ADAPTER_WEIGHTS) != update.adapter_sha256:
                raise StateError(f"{folder} is not what was tested; it is not served")
            self._load(engine, update.adapter, folder, update.gate.get("probes", ()))
        except (FastslowError, OSError) as error:
            log.error("update %s cannot answer: %s", update.id, error)
            self._refused[update.adapter] = self._clock() + TRIES_EVERY
            return None
        self._refused.pop(update.adapter, None)
        self._loaded[update.adapter] = update.id
        return update.adapter

    def _let_go(self, engine: "Engine", name: str) -> None:
        """Unload an adapter; nobody else waits for its last answer."""

        def unload() -> None:
            try:
                engine.unload(name)
            except FastslowError as error:
                log.error("%s is not unloaded: %s", name, error)
            finally:
                self._leaving.discard(name)

        self._leaving.add(name)
        self._beside(unload)

    def _load(self, engine: "Engine", name: str, folder: Path, probes: Sequence[Any]) -> None:
        """Load an adapter and ask it. Raises where it does not say what the learner said."""
        engine.load(name, folder)
        try:
            check_probes(engine, name, probes)
        except BaseException:
            engine.unload(name)
            raise
