"""Random inputs that objectives are checked on."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from fastslow.objectives import CONTAINERS, Objective

RANGES = {
    "chosen_collision": (-1.0, 0.0),
    "chosen_win_rate": (0.5, 0.95),
    "dispersion": (0.05, 0.95),
    "mismatched_log_ratio": (-1.0, 3.0),
    "rejected_collision": (-1.0, 0.0),
    "rejected_win_rate": (0.05, 0.5),
    "score": (0.0, 1.0),
    "score_gap": (0.1, 3.0),
    "uniform": (0.0, 1.0),
}
"""Ranges of the extras that `example` samples; (0, 1) for others. Add custom ranges here."""


def example(
    objective: Objective,
    count: int = 8,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    scale: float = 20.0,
    grad: bool = False,
    also: Iterable[str] = (),
    state: Mapping[str, float] | None = None,
) -> Any:
    """Random input of the kind the objective takes, with all extras it needs.

    Args:
        count: rows, B. Rankings have two or three responses; ties are included if the objective
            learns them.
        scale: log-probs are sampled from (-scale, 0).
        grad: whether the policy's log-probs require gradients.
        also: names of further extras.
        state: None for the state after three steps on other examples.
    """
    if state is None:
        state = objective.initial_state()
        for earlier in range(1, 4) if state else ():
            other = example(objective, count, seed=seed + 100 * earlier, scale=scale, state=state)
            state = next_state(objective, other)
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    ranked = objective.takes == "rankings"
    shape = (count, 3) if ranked else (count,)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=wide)

    kind = CONTAINERS[objective.takes]
    values = {name: draw(-scale, 0).to(dtype) for name in names_of(kind, "policy", "reference")}
    values |= {name: draw(1, 40).long() for name in names_of(kind, "length")}
    extras = {name: draw(*RANGES.get(name, (0, 1))) for name in sorted({*objective.needs, *also})}
    even = torch.arange(count) % 2 == 0
    if ranked:
        values["rank"] = (draw(0, 1) < torch.tensor([0.0, 0.8, 0.8])).cumsum(1)
        values["present"] = torch.arange(3) < torch.where(even, 3, 2)[:, None]
        if "score" in extras:
            extras["score"] = extras["score"].sort(1, descending=True)[0].gather(1, values["rank"])
    if objective.takes == "ratings":
        values["desirable"] = even
    if objective.learns_ties:
        extras["tie"] = (draw(0, 1) < 0.3).to(wide)
    for name in names_of(kind, "policy"):
        values[name].requires_grad_(grad)
    return kind(**values, extras=extras, state=state)


def expect(ok: bool, expected: str, found: str, look: str) -> None:
    if not ok:
        raise AssertionError(f"expected {expected}; found {found}; look at {look}")


def names_of(logps: Any, *parts: str) -> list[str]:
    """Fields of a container, or its class, whose names contain one of the parts."""
    return [f.name for f in fields(logps) if any(part in f.name for part in parts)]


def tensors_of(logps: Any) -> dict[str, Tensor]:
    values = {f.name: getattr(logps, f.name) for f in fields(logps)}
    return {k: v for k, v in values.items() if isinstance(v, Tensor)} | dict(logps.extras)


def with_tensors(logps: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The container with tensors replaced by name, extras included."""
    extras = {name: tensors.get(name, value) for name, value in logps.extras.items()}
    return replace(logps, **{k: v for k, v in tensors.items() if k not in extras}, extras=extras)


def without_extra(logps: Any, extra: str) -> Any:
    return replace(logps, extras={k: v for k, v in logps.extras.items() if k != extra})


def some_rows(logps: Any, rows: Iterable[int]) -> Any:
    index = torch.tensor(list(rows))
    return with_tensors(logps, {name: value[index] for name, value in tensors_of(logps).items()})


def next_state(objective: Objective, logps: Any) -> dict[str, float]:
    """The state after a step on these rows."""
    sums = {name: float(value) for name, value in objective.observe(logps).items()}
    return objective.advance(logps.state, sums, len(logps.policy_margin))


def slopes_of(
    of: Callable[[Any], Tensor], logps: Any, also: Iterable[str] = ()
) -> dict[str, Tensor]:
    """Gradients of a sum over rows with respect to the policy's log-probs and the named tensors."""
    tensors, names = tensors_of(logps), [*names_of(logps, "policy"), *also]
    leaves = {name: tensors[name].detach().clone().requires_grad_() for name in names}
    total = of(with_tensors(logps, leaves)).sum()
    expect(total.requires_grad, "a loss with a gradient", "none", "detach")
    slopes = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return dict(zip(names, slopes, strict=True))


def moved(logps: Any, by: float) -> Any:
    """The policy at the reference, with responses then moved `by` nats as the margins grow."""
    start = {n: getattr(logps, n.replace("policy", "reference")) for n in names_of(logps, "policy")}
    uphill = slopes_of(lambda inputs: inputs.policy_margin, logps)
    return with_tensors(logps, {name: start[name] + by * up for name, up in uphill.items()})


def pretend_world(objective: Objective, logits: Tensor, seed: int) -> Any:
    """Labelled answers 0, 1 and 2, from better to worse, scored by a policy with these logits."""
    worlds: dict[str, dict[str, Any]] = {
        "pairs": {"policy_chosen": [0, 1, 0], "policy_rejected": [1, 2, 2]},
        "rankings": {"policy": [[0, 1, 2], [0, 1, 2]]},
        "ratings": {"policy": [0, 2]},
        "demonstrations": {"policy_chosen": [0, 0]},
    }
    answers = worlds[objective.takes]
    rows = len(next(iter(answers.values())))
    logps = without_extra(example(objective, rows, dtype=torch.float64, seed=seed), "tie")
    tensors = {name: logits.log_softmax(0)[torch.tensor(i)] for name, i in answers.items()}
    for name in names_of(logps, "reference"):
        tensors[name] = torch.full_like(getattr(logps, name), -math.log(3))
    if objective.takes == "rankings":
        tensors["rank"] = torch.arange(3).expand(2, 3)
    return with_tensors(logps, tensors)
