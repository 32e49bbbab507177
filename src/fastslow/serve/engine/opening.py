"""What a server answers with: a model on this machine, or an engine by URL, and adapters."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastslow.atomic_io import file_hash
from fastslow.errors import ConfigError
from fastslow.feedback import Store
from fastslow.foreign_files import ADAPTER_WEIGHTS
from fastslow.serve.engine.apart import ApartEngine
from fastslow.serve.engine.remote import RemoteEngine

if TYPE_CHECKING:
    from fastslow.serve.answering import Engine

KEY = "OPENAI_API_KEY"
"""Environment variable of an engine's API key."""
SLOTS = 4
"""Adapters that a model on this machine has room for from the start."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What gives answers, if anything does."""

    overrides: Sequence[str] = ()
    """Settings of a recipe; with its model there is an engine on this machine."""
    adapters: Sequence[Path] = ()
    """PEFT folders that answer beside the base, the last one unless another is named."""
    url: str | None = None
    """Of an engine that answers instead."""
    model: str | None = None
    """That engine's base."""
    threads: int | None = None
    """Of an engine on this machine; None: as many as there are cores."""
    template_settings: Mapping[str, Any] = field(default_factory=dict)
    """What the chat template of an engine by URL is given besides the turns."""


@contextmanager
def opened_engine(wanted: EngineChoice, store: Store) -> "Iterator[Engine | None]":
    """The engine with its adapters, stopped at the end; None where nothing answers.

    By the store, servers that share it tell one another which adapters they offer.

    Raises ConfigError for what cannot be, StateError where an engine refuses an adapter.
    """
    for folder in wanted.adapters:
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise ConfigError(f"{folder} has no {ADAPTER_WEIGHTS}; give an adapter's folder")
    if wanted.url is not None and wanted.overrides:
        raise ConfigError(f"--engine answers, so that nothing is done with {wanted.overrides[0]}")
    if wanted.url is None and wanted.model is not None:
        raise ConfigError("--engine-model: is of an engine behind a URL; add --engine")
    if wanted.url is None and not wanted.overrides and not wanted.adapters:
        yield None
        return
    engine = _engine(wanted, store)
    try:
        for folder in wanted.adapters:
            # A name is for these weights and no others.
            name = f"{folder.resolve().name}-{file_hash(folder / ADAPTER_WEIGHTS)[:12]}"
            engine.load(name, folder)
        yield engine
    finally:
        engine.close()


def _engine(wanted: EngineChoice, store: Store) -> "Engine":
    if wanted.url is not None:
        return RemoteEngine(
            wanted.url,
            model=wanted.model,
            key=os.environ.get(KEY),
            template_settings=wanted.template_settings,
            holds=store.holds(),
        )
    slots = max(SLOTS, len(wanted.adapters))
    return ApartEngine(wanted.overrides, slots=slots, threads=wanted.threads)
