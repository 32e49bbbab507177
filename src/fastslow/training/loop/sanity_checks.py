"""Checks that stop a run that would train silently wrong, or warn of a very slow one."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from fastslow.adapters import Modules
from fastslow.atomic_io import write_text
from fastslow.errors import NonFiniteError, StateError
from fastslow.scoring import Encoded

SAME = 1e-3
"""Nats by which two computations of the same log-prob sum may differ."""

SLOWER = 2.0
"""Times that bfloat16 may take longer than float32 before the run warns."""


def slow_bfloat16(device: torch.device) -> str | None:
    """A warning where the processor computes bfloat16 in software; None where it does not."""
    if device.type != "cpu":
        return None
    times = {kind: _product_time(kind) for kind in (torch.float32, torch.bfloat16)}
    slower = times[torch.bfloat16] / times[torch.float32]
    if slower < SLOWER:
        return None
    return (
        f"matrix products in bfloat16 are {slower:.0f} times slower than in float32 on this CPU; "
        "train.precision=float32 is much faster here"
    )


def _product_time(kind: torch.dtype) -> float:
    """Seconds for a product of matrices, the best of a few."""
    matrix = torch.ones(128, 128, dtype=kind)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        times.append(time.perf_counter() - began)
    return min(times)


def check_start(policies: Mapping[str, Tensor], reference: Tensor | None) -> None:
    """Before the first step: every module scores as the others do, and as its reference.

    Args:
        policies: each module's log-prob sums of the same responses, [N], nats.
        reference: the reference's, or None where it is meant to differ from the start.

    Raises StateError naming what differs. With Delta = 0 the dpo loss is ln 2.
    """
    (first, expected), *others = policies.items()
    if reference is not None:
        _check_same(f"module {first}", expected, "the reference", reference)
    for name, scores in others:
        _check_same(f"module {name}", scores, f"module {first}", expected)


def _check_same(name: str, scores: Tensor, other_name: str, other: Tensor) -> None:
    gap = (scores.detach() - other.detach()).abs().max().item()
    if not gap <= SAME:
        raise StateError(
            f"before the first step {name} is {gap:.3g} nats away from {other_name}; both must "
            "start from the same policy. Check lora.start_from and reference."
        )


class MovedTensors:
    """Around the first update: exactly the tensors that were meant to move have moved.

    Made before the update, when gradients are there; `check` is called after it.
    """

    def __init__(self, modules: Modules, updating: tuple[str, ...], *, decay: bool) -> None:
        self._modules = modules
        self._before = {
            key: value.clone()
            for name in modules.names
            for key, value in modules.tensors(name).items()
        }
        # Tensors with a gradient have to move; decay alone may be too little to move a float.
        self._must = {
            key
            for name in updating
            for key, parameter in modules.parameters(name).items()
            if parameter.grad is not None and bool(parameter.grad.any())
        }
        learning = {key for name in updating for key in modules.parameters(name)}
        self._may = learning if decay else self._must
        self._base_with_gradient = [
            key
            for key, parameter in modules.model.named_parameters()
            if parameter.grad is not None and key not in self._before
        ]
        self._silent = [name for name in updating if not self._must & set(modules.parameters(name))]

    def check(self, *, undecided: bool) -> bool:
        """Whether every module was seen to learn.

        `undecided`: the batch prefers nothing, so that a module may get no gradient from it. Raises
        StateError if the base got a gradient, a module got none otherwise, or others moved.
        """
        if self._base_with_gradient:
            raise StateError(f"the frozen base got a gradient: {self._base_with_gradient[0]}")
        if self._silent and not undecided:
            raise StateError(
                f"module {self._silent[0]} got no gradient from the first batch, so it cannot learn"
            )
        moved = {
            key
            for name in self._modules.names
            for key, value in self._modules.tensors(name).items()
            if not torch.equal(value, self._before[key])
        }
        if wrong := (moved - self._may) | (self._must - moved):
            key = min(wrong)
            state = "moved" if key in moved else "did not move"
            raise StateError(f"the first update is wrong: {key} {state}")
        return not self._silent


def check_finite(
    value: float, what: str, *, step: int, batch: Sequence[Encoded], folder: Path
) -> None:
    """Raise NonFiniteError if a number of the step is not finite; its batch stays in the folder."""
    if math.isfinite(value):
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"failed-batch-{step}.json"
    rows = [{"example": asdict(item.example), "tree": asdict(item.tree)} for item in batch]
    text = json.dumps(rows, ensure_ascii=False, indent=1, default=str)
    write_text(path, text, private=True)
    raise NonFiniteError(
        f"step {step}: the {what} is {value}; nothing was updated. The batch is in {path}. "
        "Checkpoints are intact. Lower train.learning_rate, set train.max_grad_norm, or check "
        "the model folder for damaged weights."
    )
