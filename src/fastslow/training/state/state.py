"""Everything that changes while a run goes on, in one place, and its way to disk and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fastslow.adapters import Modules
from fastslow.dynamics import Race
from fastslow.evaluation import Tally
from fastslow.streams import Reservoir
from fastslow.training.data.batch_reader import BatchReader
from fastslow.training.data.delayed_labels import Preview
from fastslow.training.data.prefetch import AheadReader
from fastslow.training.loop.drift import DriftDetector
from fastslow.training.loop.reference_cache import Remembered
from fastslow.training.on_policy.filtered_reader import FilteredReader
from fastslow.training.on_policy.online_reader import FreshReader
from fastslow.training.state.checkpoint import Snapshot

Reader = BatchReader | AheadReader | FilteredReader | FreshReader
"""Where batches come from: what is stored, the part of it that is not outgrown, fresh answers."""


@dataclass(slots=True)
class TrainingState:
    """A run between two steps."""

    modules: Modules
    optimizers: dict[str, Optimizer]
    """One for each trained module, those of the race and a critic."""
    race: Race
    reader: Reader
    memory: Reservoir
    """An even sample of the pairs learned from."""
    moving: tuple[str, ...] = ()
    """Frozen modules that go after the leader."""
    drift: DriftDetector | None = None
    preview: Preview | None = None
    """Where labels come late, what is shown meanwhile."""
    remembered: Remembered | None = None
    """The reference's scores, where examples meet it again."""
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    """What the objective remembers of each module's batches."""
    step: int = 0
    """Finished optimiser steps."""
    pairs_seen: int = 0
    swaps: int = 0
    """How often the lead has changed hands."""
    prequential: Tally = field(default_factory=Tally)
    """Test-then-train sums of the leader over every pair before it was learned."""
    start: dict[str, Any] | None = None
    """Held-out measurement before the first step."""
    wall_s: float = 0.0
    """Seconds spent so far, over all sessions of the run."""
    log_size: int = 0
    """Bytes of the event log that belong to this state."""

    @property
    def of_heldout(self) -> dict[str, dict[str, float]]:
        """What the objective remembers, where it is of use for held-out pairs: those are measured
        against the start, and what was seen against a reference that moved says nothing there."""
        return {} if self.moving else self.running

    def snapshot(self) -> Snapshot:
        """The state as tensors and JSON facts."""
        module_tensors: dict[str, Tensor] = {}
        optimizer_tensors: dict[str, Tensor] = {}
        for name in (*self.optimizers, *self.moving):
            module_tensors |= self.modules.tensors(name)
        for name in self.optimizers:
            for key, value in _optimizer_tensors(self.optimizers[name]).items():
                optimizer_tensors[f"{name}/{key}"] = value
        remembered = {"remembered": self.remembered.tensors()} if self.remembered else {}
        return Snapshot(
            tensors={
                "modules": module_tensors,
                "optimizers": optimizer_tensors,
                "generators": _generators(),
                **remembered,
            },
            facts={
                "step": self.step,
                "pairs_seen": self.pairs_seen,
                "swaps": self.swaps,
                "race": self.race.state(),
                "reader": self.reader.state(),
                "memory": self.memory.state(),
                "drift": self.drift.state() if self.drift else None,
                "running": self.running,
                "preview": self.preview.state() if self.preview else None,
                "prequential": {"count": self.prequential.count, "sums": self.prequential.sums},
                "start": self.start,
                "wall_s": self.wall_s,
                "log_size": self.log_size,
            },
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Become the state a snapshot was taken of, bit for bit."""
        facts, tensors = snapshot.facts, snapshot.tensors
        for name in (*self.optimizers, *self.moving):
            self.modules.load_tensors(name, dict(tensors["modules"]))
        for name in self.optimizers:
            prefix = f"{name}/"
            own = {
                key.removeprefix(prefix): value
                for key, value in tensors["optimizers"].items()
                if key.startswith(prefix)
            }
            _load_optimizer_tensors(self.optimizers[name], own)
        for key in ("step", "pairs_seen", "swaps", "start", "wall_s", "log_size"):
            setattr(self, key, facts[key])
        self.race.load_state(facts["race"])
        self.reader.load_state(facts["reader"])
        self.memory.load_state(facts["memory"])
        if self.drift is not None:
            self.drift.load_state(facts["drift"])
        if self.preview is not None:
            self.preview.load_state(facts["preview"])
        if self.remembered is not None:
            self.remembered.load_tensors(tensors["remembered"])
        self.running = facts["running"]
        self.prequential = Tally(**facts["prequential"])
        _restore_generators(tensors["generators"])


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    entries = optimizer.state_dict()["state"]
    return {
        f"{index}/{key}": torch.as_tensor(value)
        for index, entry in entries.items()
        for key, value in entry.items()
        if value is not None
    }


def _load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        entries.setdefault(int(index), {})[name] = value.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def _generators() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_generators(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    cuda = [states[key] for key in sorted(states) if key.startswith("cuda")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
