"""The mutable state of a run in one place, and its serialisation."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from fastslow.adapters import Modules
from fastslow.dynamics import LeaderSelector
from fastslow.evaluation import MetricSums
from fastslow.records import Example
from fastslow.streams import Reservoir
from fastslow.training.state.checkpoint import Snapshot


class Stateful(Protocol):
    """Something whose state fits in JSON."""

    def state(self) -> dict[str, Any]:
        """The current state, for `load_state`."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state that `state()` returned."""
        ...


class DriftState(Stateful, Protocol):
    """A drift detector."""

    found: bool

    def update(self, losses: list[float]) -> bool:
        """Take in losses; returns True if the domain has ended."""
        ...


class CacheState(Protocol):
    """A cache of the reference's scores."""

    def measure(
        self, items: Sequence[Any], statistics: Sequence[str], score: Callable[[], Any]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Sums and statistics of all responses, from `score` unless they are cached."""
        ...

    def share(self) -> None:
        """Exchange new scores between all processes."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The cached scores."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore scores that `tensors` returned."""
        ...


@dataclass(slots=True)
class TrainingState:
    """A run between two steps."""

    modules: Modules
    optimizers: dict[str, Optimizer]
    """One per trained module: those of the selector, and a critic."""
    selector: LeaderSelector
    replay_buffer: Reservoir[Example]
    """An even sample of the examples learned from."""
    reader: Stateful | None = None
    """Where batches come from; None if the caller supplies them."""
    moving: tuple[str, ...] = ()
    """Frozen modules that follow the leader."""
    drift: DriftState | None = None
    delayed_labels: Stateful | None = None
    """The pairs shown before their labels arrive, if labels are delayed."""
    reference_cache: CacheState | None = None
    """The reference's scores, if examples are scored more than once."""
    budget: Stateful | None = None
    """Keeps the modules near their reference."""
    paces: dict[str, float] = field(default_factory=dict)
    """Factor on a module's learning rate; 1 for modules not listed."""
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    """The objective's running statistics per module."""
    step: int = 0
    """Finished optimiser steps."""
    pairs_seen: int = 0
    swaps: int = 0
    """How often the lead has changed."""
    set_aside: int = 0
    """Examples of batches skipped for a non-finite loss or gradient."""
    prequential: MetricSums = field(default_factory=MetricSums)
    """Test-then-train sums: the leader on every example before it was learned from."""
    start: dict[str, Any] | None = None
    """Held-out metrics before the first step."""
    evaluation_due: bool = False
    """True if the evaluation after the last step is still to be done."""
    wall_s: float = 0.0
    """Seconds spent so far, including before the run was resumed."""
    log_size: int = 0
    """Bytes of the event log that belong to this state."""

    @property
    def of_heldout(self) -> dict[str, dict[str, float]]:
        """The running statistics for held-out pairs. They are evaluated against the initial
        reference, so statistics of a moving reference are not used."""
        return {} if self.moving else self.running

    def snapshot(self) -> Snapshot:
        """A copy of the state as tensors and JSON facts, which later steps do not change."""
        module_tensors: dict[str, Tensor] = {}
        optimizer_states: dict[str, Tensor] = {}
        for name in (*self.optimizers, *self.moving):
            module_tensors |= self.modules.tensors(name)
        for name in self.optimizers:
            for key, value in optimizer_tensors(self.optimizers[name]).items():
                optimizer_states[f"{name}/{key}"] = value
        cache = self.reference_cache
        return Snapshot(
            tensors={
                "modules": copies(module_tensors),
                "optimizers": copies(optimizer_states),
                "generators": generator_states(),
                **({"reference_cache": cache.tensors()} if cache else {}),
            },
            facts=deepcopy(
                {
                    "step": self.step,
                    "pairs_seen": self.pairs_seen,
                    "swaps": self.swaps,
                    "set_aside": self.set_aside,
                    "selector": self.selector.state(),
                    "reader": self.reader.state() if self.reader else None,
                    "replay_buffer": self.replay_buffer.state(),
                    "drift": self.drift.state() if self.drift else None,
                    "budget": self.budget.state() if self.budget else None,
                    "paces": self.paces,
                    "running": self.running,
                    "delayed_labels": self.delayed_labels and self.delayed_labels.state(),
                    "prequential": {
                        "count": self.prequential.count,
                        "sums": self.prequential.sums,
                    },
                    "start": self.start,
                    "evaluation_due": self.evaluation_due,
                    "wall_s": self.wall_s,
                    "log_size": self.log_size,
                }
            ),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Restore the state a snapshot was taken of, bit for bit."""
        facts, tensors = deepcopy(dict(snapshot.facts)), snapshot.tensors
        for name in (*self.optimizers, *self.moving):
            self.modules.load_tensors(name, dict(tensors["modules"]))
        for name in self.optimizers:
            prefix = f"{name}/"
            optimizer_state = {
                key.removeprefix(prefix): value
                for key, value in tensors["optimizers"].items()
                if key.startswith(prefix)
            }
            load_optimizer_tensors(self.optimizers[name], optimizer_state)
        for key in (
            "step",
            "pairs_seen",
            "swaps",
            "set_aside",
            "start",
            "evaluation_due",
            "wall_s",
            "log_size",
        ):
            setattr(self, key, facts[key])
        self.selector.load_state(facts["selector"])
        self.replay_buffer.load_state(facts["replay_buffer"])
        stateful = {
            "reader": self.reader,
            "drift": self.drift,
            "delayed_labels": self.delayed_labels,
            "budget": self.budget,
        }
        for key, part in stateful.items():
            if part is not None:
                part.load_state(facts[key])
        if self.reference_cache is not None:
            self.reference_cache.load_tensors(tensors["reference_cache"])
        self.paces = facts.get("paces", {})  # Older checkpoints have none.
        self.running = facts["running"]
        self.prequential = MetricSums(**facts["prequential"])
        restore_generators(tensors["generators"])


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors, which do not change with the originals."""
    return {key: tensor.clone() for key, tensor in tensors.items()}


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's state by parameter and name."""
    entries = optimizer.state_dict()["state"]
    return {
        f"{index}/{key}": torch.as_tensor(value)
        for index, entry in entries.items()
        for key, value in entry.items()
        if value is not None
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore a state that `optimizer_tensors` returned."""
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        entries.setdefault(int(index), {})[name] = value.clone()
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})


def generator_states() -> dict[str, Tensor]:
    """The states of torch's global generators, by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_generators(states: Mapping[str, Tensor]) -> None:
    """Set torch's global generators to states that `generator_states` returned."""
    torch.set_rng_state(states["cpu"])
    cuda = [states[key] for key in sorted(states) if key.startswith("cuda")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
