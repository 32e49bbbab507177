"""Which adapter answers in each domain, by the store's routes; it is loaded before it is used."""

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
"""Seconds until an adapter that could not be loaded is tried again: a shared folder may lag
behind."""
log = logging.getLogger(__name__)


def in_a_thread(work: Callable[[], None]) -> None:
    """Run work that nobody waits for, not even a server's shutdown."""
    threading.Thread(target=work, name="unloading", daemon=True).start()


class Served:
    """The adapters of updates that an engine serves.

    Args:
        folder: the live folder.
        clock: seconds.
        beside: runs the unloading of an adapter, which waits for its last answer.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        beside: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        self._folder, self._clock, self._beside = folder, clock, beside
        self._routes: Mapping[str, str] = {}
        """The adapter that answers, by domain; BASE where every update was rolled back."""
        self._before: Mapping[str, str] = {}
        """The previous adapter, by domain."""
        self._loaded: dict[str, int] = {}
        """Ids of updates by their adapters, including previous adapters."""
        self._refused: dict[str, float] = {}
        """When an adapter that could not be loaded is tried again."""
        self._leaving: set[str] = set()
        """Adapters that get no more requests and finish their last answers."""

    def model_for(self, domain: str) -> str | None:
        """The adapter that answers in a domain; None where no update ever did."""
        return self._routes.get(domain)

    def before(self, domain: str) -> str | None:
        """The previous adapter of a domain, if the engine still has it."""
        return self._before.get(domain)

    def update_of(self, model: str) -> int | None:
        """Id of the update that made an adapter."""
        return self._loaded.get(model)

    def follow(self, engine: "Engine", wanted: Iterable[Wanted]) -> None:
        """Have the engine answer as the store says: new adapters are loaded and then used, previous
        ones stay loaded for a rollback, older ones are unloaded.

        An adapter that is not what was tested, that the engine refuses, or that answers there
        differently than for the learner, is not used; the previous one keeps answering, and an
        error is logged.
        """
        routes, before, kept = dict[str, str](), dict[str, str](), set[str]()
        for route in wanted:
            name = self._ready(engine, route.now)
            previous = self._ready(engine, route.before)
            if previous is not None and route.now is not None and name is not None:
                before[route.domain] = previous
            if name is None:
                name = self._routes.get(route.domain, BASE)
            routes[route.domain] = name
            kept |= {name} if previous is None else {name, previous}
        self._routes, self._before = routes, before
        for name in set(self._loaded) - kept:
            del self._loaded[name]
            self._let_go(engine, name)

    def _ready(self, engine: "Engine", update: Update | None) -> str | None:
        """Load an update's adapter if needed; its name, or None if it cannot be used now."""
        if update is None or update.adapter is None:
            return BASE
        if update.adapter in self._loaded:
            return update.adapter
        if self._clock() < self._refused.get(update.adapter, 0.0):
            return None
        if update.adapter in self._leaving:
            return None  # Loaded again once it is unloaded.
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
        """Unload an adapter after its last answer, without holding up the caller."""

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
        """Load an adapter and probe it. Raises if it does not answer as it did for the learner."""
        engine.load(name, folder)
        try:
            check_probes(engine, name, probes)
        except BaseException:
            engine.unload(name)
            raise
