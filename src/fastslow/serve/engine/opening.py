"""Opens what a server answers with: a model on this machine or an engine by URL, and adapters."""

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
"""Environment variable with a remote engine's API key."""
SLOTS = 4
"""Adapter slots of a model on this machine at the start."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which engine gives answers, if any."""

    overrides: Sequence[str] = ()
    """Settings of a recipe; its model runs on this machine."""
    adapters: Sequence[Path] = ()
    """PEFT folders that answer beside the base; the last one is the default."""
    url: str | None = None
    """URL of a remote engine that answers instead."""
    model: str | None = None
    """Base model of that engine."""
    threads: int | None = None
    """Threads of an engine on this machine; None: as many as there are cores."""
    template_settings: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of a remote engine's chat template besides the turns."""


@contextmanager
def opened_engine(wanted: EngineChoice, store: Store) -> "Iterator[Engine | None]":
    """The engine with its adapters, closed on exit; None where nothing answers.

    Servers that share the store tell each other through it which adapters they offer.

    Raises ConfigError for an invalid choice, StateError if an engine refuses an adapter.
    """
    for folder in wanted.adapters:
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise ConfigError(f"{folder} has no {ADAPTER_WEIGHTS}; give an adapter's folder")
    if wanted.url is not None and wanted.overrides:
        raise ConfigError(f"{wanted.overrides[0]} has no effect: --engine answers")
    if wanted.url is None and wanted.model is not None:
        raise ConfigError("--engine-model names a model of a remote engine; add --engine")
    if wanted.url is None and not wanted.overrides and not wanted.adapters:
        yield None
        return
    engine = _engine(wanted, store)
    try:
        for folder in wanted.adapters:
            # The name stands for exactly these weights.
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
