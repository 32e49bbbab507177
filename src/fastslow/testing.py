"""Checks that every objective must pass, to run on a custom one. Imports torch only.

>>> from fastslow.objectives import make_objective
>>> check_objective(make_objective("dpo"))

Each check can also be called alone: it takes the objective and raises AssertionError. A row is a
pair, a ranking, a rating or a demonstration, and its margin is the container's `policy_margin`.
Runs start with policy log-probs equal to the reference's. The direction of learning is judged by
margins, not by the chosen response alone, which some methods lower together with the rejected one.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck

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
    """Random input of the kind that the objective takes, with all extras it needs.

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
            state = _step(objective, other)
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    ranked = objective.takes == "rankings"
    shape = (count, 3) if ranked else (count,)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=wide)

    kind = CONTAINERS[objective.takes]
    values = {name: draw(-scale, 0).to(dtype) for name in _names(kind, "policy", "reference")}
    values |= {name: draw(1, 40).long() for name in _names(kind, "length")}
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
    for name in _names(kind, "policy"):
        values[name].requires_grad_(grad)
    return kind(**values, extras=extras, state=state)


def checks(objective: Objective) -> dict[str, Callable[[], None]]:
    """The checks that apply to an objective, by name, as callables.

    Raises ValueError for one that takes tokens.
    """
    if objective.takes == "tokens":
        raise ValueError(f"{objective!r} takes tokens, which these checks do not support")
    chosen: list[Callable[[Objective], None]] = [
        one_loss_and_reward_per_row, gradient_is_derivative, no_gradient_beyond_the_policy,
        huge_gaps_stay_finite, calling_changes_nothing, order_does_not_matter,
        what_matters_is_declared, state_is_plain_numbers, better_is_cheaper,
        starts_towards_the_better, learns_three_answers,
    ]  # fmt: skip
    if not objective.coupled:
        chosen.append(batch_is_its_halves)
    if objective.takes == "pairs":
        chosen.append(ties_matter_as_declared)
    if objective.initial_state():
        chosen += [state_advances_purely, state_matters]
    return {check.__name__: partial(check, objective) for check in chosen}


def check_objective(objective: Objective, but: Iterable[str] = ()) -> None:
    """Run all checks that apply, except those named in `but`.

    Raises AssertionError that lists all failures, ValueError for an unknown check.
    """
    todo, skipped_examples = checks(objective), set(but)
    if unknown := skipped_examples - set(todo):
        raise ValueError(f"got {sorted(unknown)}; the checks are {sorted(todo)}")
    failed = failed_checks(objective, but)
    if failed:
        raise AssertionError("\n- ".join([f"{objective!r}: {len(failed)} checks failed", *failed]))


def failed_checks(objective: Objective, but: Iterable[str] = ()) -> list[str]:
    """Failed checks as `name: message`; empty if all pass."""
    todo = checks(objective)
    found = {name: failure(todo[name]) for name in sorted(set(todo) - set(but))}
    return [f"{name}: {said}" for name, said in found.items() if said is not None]


def failure(check: Callable[[], None]) -> str | None:
    """What a check says if it fails; None where it holds."""
    try:
        check()
    except Exception as error:  # What is broken may raise anything.
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return f"{kind}{error}"
    return None


def one_loss_and_reward_per_row(objective: Objective) -> None:
    """Loss and rewards are [B], float32 or, for float64 input, that; rewards have no gradient."""
    for given in (torch.float32, torch.bfloat16, torch.float64):
        out = objective(example(objective, 6, dtype=given, grad=True))
        dtype = torch.float64 if given == torch.float64 else torch.float32
        for name in ("loss", "chosen_reward", "rejected_reward"):
            value = getattr(out, name)
            expected = ([6], dtype, name == "loss")
            found = (list(value.shape), value.dtype, value.requires_grad)
            what, look = "shape, dtype and gradient of", "reductions over rows, `widen`, detach"
            _expect(found == expected, f"{what} {name} {expected}", f"{found}", look)


def gradient_is_derivative(objective: Objective) -> None:
    """The gradient agrees with finite differences in float64.

    Methods that treat a part that depends on the policy, a weight say, as a constant fail by
    design: name this check in `but`.
    """
    logps = example(objective, dtype=torch.float64, scale=8.0, grad=True)
    names = _names(logps, "policy")

    def loss(*policy: Tensor) -> Tensor:
        return objective(_with(logps, dict(zip(names, policy, strict=True)))).loss

    found = ""
    try:
        gradcheck(loss, [getattr(logps, name) for name in names], eps=1e-6, atol=1e-6)
    except (RuntimeError, ValueError) as error:
        found = str(error).strip()
    _expect(not found, "the loss's derivative as its gradient", found, "detach, clamp, steps")


def no_gradient_beyond_the_policy(objective: Objective) -> None:
    """Neither the reference nor any extra receives a gradient."""
    logps = example(objective)
    others = [*_names(logps, "reference"), *logps.extras]
    gradients = _slopes(lambda given: objective(given).loss, logps, others)
    for name in others:
        found = f"{gradients[name]}"
        _expect(not gradients[name].any(), f"no gradient in {name}", found, "detach, `needed`")


def huge_gaps_stay_finite(objective: Objective) -> None:
    """Loss and gradient are finite 10,000 nats from the reference, in float32 and bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        start = example(objective, dtype=dtype, scale=0.0)
        names = _names(start, "policy")
        for gap in (1e4, -1e4):
            far = _tensors(_moved(start, gap))
            for some in [names, *([name] for name in names)]:
                logps = _with(start, {name: far[name] for name in some})
                slopes = _slopes(lambda given: objective(given).loss, logps)
                for name, value in {"loss": objective(logps).loss, **slopes}.items():
                    found = f"{name} {value.tolist()} with {some} moved {gap:g} nats, {dtype}"
                    look = "exp and log, to be made stable or clamped before a torch.where"
                    _expect(bool(value.isfinite().all()), "finite numbers", found, look)


def calling_changes_nothing(objective: Objective) -> None:
    """Input, state and extras stay as they were, and the next call gives the same bits."""
    logps, before = example(objective), example(objective)
    first = objective(logps).loss
    objective.observe(logps)
    for name, value in _tensors(before).items():
        now = _tensors(logps)[name]
        _expect(torch.equal(now, value), f"{name} as it was", f"{now}", "operations ending in _")
    old, new = before.state, logps.state
    _expect(new == old, f"the state {old}", f"{new}", "assignments to it")
    objective(example(objective, seed=1))
    again = objective(before).loss
    _expect(torch.equal(first, again), f"{first} again", f"{again}", "hidden state, randomness")


def batch_is_its_halves(objective: Objective) -> None:
    """The losses of 8 rows are those of 4 and 4, bit for bit. For objectives not `coupled`."""
    whole = example(objective)
    halves = torch.cat([objective(_rows(whole, range(i, i + 4))).loss for i in (0, 4)])
    found, look = objective(whole).loss, "means over the batch, to be declared as `coupled`"
    _expect(torch.equal(found, halves), f"{halves} as in halves", f"{found}", look)


def order_does_not_matter(objective: Objective) -> None:
    """Rows in another order have their losses in that order."""
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    logps = example(objective, dtype=torch.float64)
    expected, found = objective(logps).loss[order], objective(_rows(logps, order)).loss
    same = torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    _expect(same, f"{expected}", f"{found}", "what looks at the place of a row")


def what_matters_is_declared(objective: Objective) -> None:
    """The loss depends on the reference, the lengths and each extra exactly if it says so.

    It does by `needs_reference`, `needs_lengths` and `needs`. Of other extras those in `RANGES`
    are tried. Without one that it needs there is a ValueError that names it.
    """
    # Many rows, since some matter only in large batches or on one side of a bound.
    logps, *others = (
        example(objective, 64, scale=4.0, seed=seed, also=RANGES) for seed in range(4)
    )
    parts = {"reference": objective.needs_reference, "length": objective.needs_lengths}
    parts |= {name: name in objective.needs for name in logps.extras if name != "tie"}
    for part, declared in parts.items():
        names = [part] if part in logps.extras else _names(logps, part)
        new = [{name: _tensors(other)[name] for name in names} for other in others]
        found = any(_differ(objective, logps, _with(logps, tensors)) for tensors in new)
        _expect(found == declared, f"{part} to matter: {declared}", f"{found}", "its `needs...`")
    for name in objective.needs:
        message = "no error"
        try:
            objective(_without(logps, name))
        except ValueError as error:
            message = str(error)
        _expect(name in message, f"a ValueError about the missing {name}", message, "`needed`")


def ties_matter_as_declared(objective: Objective) -> None:
    """The loss depends on the extra `tie` exactly if `learns_ties`; without it no pair is one."""
    none, look = _without(example(objective, scale=4.0), "tie"), "where extras['tie'] is read"
    no, yes = (
        replace(none, extras={**none.extras, "tie": torch.full((8,), tie)}) for tie in (0.0, 1.0)
    )
    heeds, declared = _differ(objective, no, yes), objective.learns_ties
    _expect(heeds == declared, f"ties to matter: {declared}", f"{heeds}", look)
    _expect(not _differ(objective, none, no), "no ties without `tie`", "other losses", look)


def state_is_plain_numbers(objective: Objective) -> None:
    """The state is finite floats, kept by JSON, with the same names from the first step on."""
    first, later = objective.initial_state(), example(objective).state
    _expect(set(first) == set(later), f"{sorted(first)}", f"{sorted(later)}", "`advance`")
    for state in (first, later):
        plain = all(type(value) is float and math.isfinite(value) for value in state.values())
        kept = plain and json.loads(json.dumps(state)) == state
        _expect(kept, "finite floats", f"{state}", "tensors and integers in the state")


def state_advances_purely(objective: Objective) -> None:
    """What is observed in a batch is the sum over its halves, and `advance` a pure function."""
    logps = example(objective, dtype=torch.float64, grad=True)
    first, second = (objective.observe(_rows(logps, range(i, i + 4))) for i in (0, 4))
    for name, value in objective.observe(logps).items():
        total = first[name] + second[name]
        ok = value.shape == () and not value.requires_grad and torch.allclose(value, total)
        _expect(ok, f"{name} = {total.detach()}, no gradient", f"{value}", "means in `observe`")
    state, sums = dict(logps.state), {k: float(v) for k, v in objective.observe(logps).items()}
    before = (dict(state), dict(sums))
    new, again = (objective.advance(state, sums, 8) for _ in range(2))
    _expect((state, sums) == before, f"{before}", f"{(state, sums)}", "assignments in `advance`")
    _expect(new == again != state, f"a new state, {new} twice", f"{again}", "`advance`")


def state_matters(objective: Objective) -> None:
    """The loss depends on the state, and that without any is that of the initial state."""
    later, look = example(objective, 64, scale=4.0), "what is done with `logps.state`"
    first, none = (replace(later, state=state) for state in (objective.initial_state(), {}))
    _expect(_differ(objective, first, later), "a loss that heeds the state", "none", look)
    _expect(not _differ(objective, first, none), "{} as a first state", "other losses", look)


def better_is_cheaper(objective: Objective) -> None:
    """Of margins from 10 nats below to 10 above the reference's the cheapest has grown."""
    logps = _without(example(objective, dtype=torch.float64, scale=0.5, state={}), "tie")
    moves = (-10.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 10.0)
    losses = {by: objective(_moved(logps, by)).loss.mean().item() for by in moves}
    least = min(losses, key=losses.__getitem__)
    _expect(least > 0, "the least loss above 0 nats", f"{losses}", "the sign of the margin")


def starts_towards_the_better(objective: Objective) -> None:
    """At the reference the loss falls as margins grow, and no better response alone raises it."""
    logps = example(objective, dtype=torch.float64, scale=0.5, state={})
    logps = _moved(_without(logps, "tie"), 0.0)
    look = "the sign of the margin, and the gradient where it is 0"
    gradients, total = _slopes(lambda given: objective(given).loss, logps), 0.0
    for name, up in _slopes(lambda given: given.policy_margin, logps).items():
        total += (gradients[name] * up).sum().item()
        alone = gradients[name][up > 0]
        _expect(bool((alone <= 1e-9).all()), f"no slope above 0 in {name}", f"{alone}", look)
    _expect(total < 0, "a slope below 0 as margins grow", f"{total}", look)


def learns_three_answers(objective: Objective) -> None:
    """Descent in a world of three answers ends with all margins above the reference's.

    A softmax over three logits starts at the reference, which holds them alike, and takes 40 steps
    of 0.05 nats along the gradient, for any size. All margins must grow, by more than 0.1
    nats on average.
    """
    logits, state = torch.zeros(3, dtype=torch.float64), objective.initial_state()
    for seed in range(40):
        logps = replace(_world(objective, logits.requires_grad_(), seed), state=state)
        slope = torch.autograd.grad(objective(logps).loss.mean(), logits)[0]
        state = _step(objective, logps)
        logits = (logits - 0.05 * slope / slope.abs().max().clamp(min=1e-12)).detach()
    grown = _world(objective, logits, 0).delta
    ok, look = bool((grown > 0).all()) and grown.mean().item() > 0.1, "wrong minima of the loss"
    _expect(ok, "margins that grew", f"growth by {grown.tolist()} nats", look)


def _expect(ok: bool, expected: str, found: str, look: str) -> None:
    if not ok:
        raise AssertionError(f"expected {expected}; found {found}; look at {look}")


def _names(logps: Any, *parts: str) -> list[str]:
    """Fields of a container, or of its kind, whose names have one of the parts."""
    return [f.name for f in fields(logps) if any(part in f.name for part in parts)]


def _tensors(logps: Any) -> dict[str, Tensor]:
    values = {f.name: getattr(logps, f.name) for f in fields(logps)}
    return {k: v for k, v in values.items() if isinstance(v, Tensor)} | dict(logps.extras)


def _with(logps: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The container with other tensors by name, extras among them."""
    extras = {name: tensors.get(name, value) for name, value in logps.extras.items()}
    return replace(logps, **{k: v for k, v in tensors.items() if k not in extras}, extras=extras)


def _without(logps: Any, extra: str) -> Any:
    return replace(logps, extras={k: v for k, v in logps.extras.items() if k != extra})


def _rows(logps: Any, rows: Iterable[int]) -> Any:
    index = torch.tensor(list(rows))
    return _with(logps, {name: value[index] for name, value in _tensors(logps).items()})


def _step(objective: Objective, logps: Any) -> dict[str, float]:
    """The state after a step on these rows."""
    sums = {name: float(value) for name, value in objective.observe(logps).items()}
    return objective.advance(logps.state, sums, len(logps.policy_margin))


def _differ(objective: Objective, first: Any, second: Any) -> bool:
    return not torch.equal(objective(first).loss, objective(second).loss)


def _slopes(of: Callable[[Any], Tensor], logps: Any, also: Iterable[str] = ()) -> dict[str, Tensor]:
    """Gradients of a sum over rows by the policy's log-probs and the tensors named."""
    tensors, names = _tensors(logps), [*_names(logps, "policy"), *also]
    leaves = {name: tensors[name].detach().clone().requires_grad_() for name in names}
    total = of(_with(logps, leaves)).sum()
    _expect(total.requires_grad, "a loss with a gradient", "none", "detach")
    slopes = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return dict(zip(names, slopes, strict=True))


def _moved(logps: Any, by: float) -> Any:
    """The policy at the reference, with responses then moved `by` nats as the margins grow."""
    start = {n: getattr(logps, n.replace("policy", "reference")) for n in _names(logps, "policy")}
    uphill = _slopes(lambda given: given.policy_margin, logps)
    return _with(logps, {name: start[name] + by * up for name, up in uphill.items()})


def _world(objective: Objective, logits: Tensor, seed: int) -> Any:
    """Labels of answers 0, 1 and 2, from better to worse, by a policy with these logits."""
    worlds: dict[str, dict[str, Any]] = {
        "pairs": {"policy_chosen": [0, 1, 0], "policy_rejected": [1, 2, 2]},
        "rankings": {"policy": [[0, 1, 2], [0, 1, 2]]},
        "ratings": {"policy": [0, 2]},
        "demonstrations": {"policy_chosen": [0, 0]},
    }
    answers = worlds[objective.takes]
    rows = len(next(iter(answers.values())))
    logps = _without(example(objective, rows, dtype=torch.float64, seed=seed), "tie")
    tensors = {name: logits.log_softmax(0)[torch.tensor(i)] for name, i in answers.items()}
    for name in _names(logps, "reference"):
        tensors[name] = torch.full_like(getattr(logps, name), -math.log(3))
    if objective.takes == "rankings":
        tensors["rank"] = torch.arange(3).expand(2, 3)
    return _with(logps, tensors)
