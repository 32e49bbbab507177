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
    """Something with a state that JSON can hold."""

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to be where this is now."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go where `state()` was."""
        ...


class DriftState(Stateful, Protocol):
    """A detector of drift."""

    found: bool

    def update(self, losses: list[float]) -> bool:
        """Take in losses; whether the domain has ended."""
        ...


class CacheState(Protocol):
    """The reference's scores."""

    def measure(
        self, items: Sequence[Any], statistics: Sequence[str], score: Callable[[], Any]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Sums and statistics of all responses, by `score` unless they are known."""
        ...

    def share(self) -> None:
        """Keep what all processes have found."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What is kept."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Know again what `tensors` gave."""
        ...


@dataclass(slots=True)
class TrainingState:
    """A run between two steps."""

    modules: Modules
    optimizers: dict[str, Optimizer]
    """One for each trained module, those of the selector and a critic."""
    selector: LeaderSelector
    replay_buffer: Reservoir[Example]
    """An even sample of the examples learned from."""
    reader: Stateful | None = None
    """Where batches come from; None where they are handed in."""
    moving: tuple[str, ...] = ()
    """Frozen modules that go after the leader."""
    drift: DriftState | None = None
    delayed_labels: Stateful | None = None
    """Where labels come late, what is shown meanwhile."""
    reference_cache: CacheState | None = None
    """The reference's scores, where examples meet it again."""
    budget: Stateful | None = None
    """What keeps the modules near their reference."""
    paces: dict[str, float] = field(default_factory=dict)
    """What a module's learning rate is multiplied by; 1 where nothing is said."""
    running: dict[str, dict[str, float]] = field(default_factory=dict)
    """The objective's running statistics per module."""
    step: int = 0
    """Finished optimiser steps."""
    pairs_seen: int = 0
    swaps: int = 0
    """How often the lead has changed hands."""
    set_aside: int = 0
    """Examples of batches that gave a number which was not finite."""
    prequential: MetricSums = field(default_factory=MetricSums)
    """Test-then-train sums of the leader over every example before it was learned."""
    start: dict[str, Any] | None = None
    """Held-out metrics before the first step."""
    evaluation_due: bool = False
    """Whether an evaluation after the last step is still to be made."""
    wall_s: float = 0.0
    """Seconds spent so far, over all processes that worked on the run."""
    log_size: int = 0
    """Bytes of the event log that belong to this state."""

    @property
    def of_heldout(self) -> dict[str, dict[str, float]]:
        """The running statistics for held-out pairs. They are evaluated against the initial
        reference, so statistics of a moving reference are not used."""
        return {} if self.moving else self.running

    def snapshot(self) -> Snapshot:
        """A copy of the state as tensors and JSON facts: later steps do not change it."""
        module_tensors: dict[str, Tensor] = {}
        of_optimizers: dict[str, Tensor] = {}
        for name in (*self.optimizers, *self.moving):
            module_tensors |= self.modules.tensors(name)
        for name in self.optimizers:
            for key, value in optimizer_tensors(self.optimizers[name]).items():
                of_optimizers[f"{name}/{key}"] = value
        cache = self.reference_cache
        return Snapshot(
            tensors={
                "modules": copies(module_tensors),
                "optimizers": copies(of_optimizers),
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
        """Become the state a snapshot was taken of, bit for bit."""
        facts, tensors = deepcopy(dict(snapshot.facts)), snapshot.tensors
        for name in (*self.optimizers, *self.moving):
            self.modules.load_tensors(name, dict(tensors["modules"]))
        for name in self.optimizers:
            prefix = f"{name}/"
            own = {
                key.removeprefix(prefix): value
                for key, value in tensors["optimizers"].items()
                if key.startswith(prefix)
            }
            load_optimizer_tensors(self.optimizers[name], own)
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
        self.paces = facts.get("paces", {})  # Checkpoints of before have none.
        self.running = facts["running"]
        self.prequential = MetricSums(**facts["prequential"])
        restore_generators(tensors["generators"])


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, which stay as they are whatever becomes of those."""
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
    """Put a state back that `optimizer_tensors` gave."""
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
    """Set torch's global generators to what `generator_states` gave."""
    torch.set_rng_state(states["cpu"])
    cuda = [states[key] for key in sorted(states) if key.startswith("cuda")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda)
