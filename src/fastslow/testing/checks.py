"""Checks that every objective must pass, to run on a custom one. Imports torch only.

Each check can also be called alone: it takes the objective and raises AssertionError. A row is a
pair, a ranking, a rating or a demonstration, and its margin is the container's `policy_margin`.
Runs start with policy log-probs equal to the reference's. The direction of learning is judged by
margins, not by the chosen response alone, which some methods lower together with the rejected one.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import gradcheck

from fastslow.errors import FastslowError
from fastslow.objectives import Objective, ObjectiveOutput, as_objective
from fastslow.testing.examples import (
    RANGES,
    example,
    expect,
    moved,
    names_of,
    next_state,
    pretend_world,
    slopes_of,
    some_rows,
    tensors_of,
    with_tensors,
    without_extra,
)


def checks(objective: Any) -> dict[str, Callable[[], None]]:
    """The checks that apply to an objective, by name, as callables.

    Args:
        objective: an Objective, a class of one, or a function of PairLogps.

    Raises ConfigError for what is none of these, ValueError for one that takes tokens.
    """
    objective = as_objective(objective)
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


def check_objective(objective: Any, but: Iterable[str] = ()) -> None:
    """Run all checks that apply, except those named in `but`.

    Args:
        objective: an Objective, a class of one, or a function of PairLogps.
        but: names of checks to leave out.

    Raises AssertionError that lists all failures, ValueError for an unknown check, ConfigError for
    what cannot be an objective.
    """
    todo = checks(objective)
    if unknown := set(but) - set(todo):
        raise ValueError(f"got {sorted(unknown)}; the checks are {sorted(todo)}")
    failed = failed_checks(objective, but)
    if failed:
        raise AssertionError("\n- ".join([f"{objective!r}: {len(failed)} checks failed", *failed]))


def failed_checks(objective: Any, but: Iterable[str] = ()) -> list[str]:
    """Failed checks as `name: message`; empty if all pass.

    Where the objective cannot be called, or gives no ObjectiveOutput, that alone is listed.
    """
    objective = as_objective(objective)
    if (said := failure(partial(gives_an_output, objective))) is not None:
        return [f"{gives_an_output.__name__}: {said}"]
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


def gives_an_output(objective: Objective) -> None:
    """Calling it gives an ObjectiveOutput."""
    out: Any = objective(example(objective))
    what = "an ObjectiveOutput(loss=, chosen_reward=, rejected_reward=)"
    expect(isinstance(out, ObjectiveOutput), what, f"a {type(out).__name__}", "`__call__`")


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
            expect(found == expected, f"{what} {name} {expected}", f"{found}", look)


def gradient_is_derivative(objective: Objective) -> None:
    """The gradient agrees with finite differences in float64.

    Methods that treat a part that depends on the policy, a weight say, as a constant fail by
    design: name this check in `but`.
    """
    logps = example(objective, dtype=torch.float64, scale=8.0, grad=True)
    names = names_of(logps, "policy")

    def loss(*policy: Tensor) -> Tensor:
        return objective(with_tensors(logps, dict(zip(names, policy, strict=True)))).loss

    found = ""
    try:
        gradcheck(loss, [getattr(logps, name) for name in names], eps=1e-6, atol=1e-6)
    except (RuntimeError, ValueError, FastslowError) as error:
        found = str(error).strip()
    expect(not found, "the loss's derivative as its gradient", found, "detach, clamp, steps")


def no_gradient_beyond_the_policy(objective: Objective) -> None:
    """Neither the reference nor any extra receives a gradient."""
    logps = example(objective)
    others = [*names_of(logps, "reference"), *logps.extras]
    gradients = slopes_of(lambda given: objective(given).loss, logps, others)
    for name in others:
        found = f"{gradients[name]}"
        expect(not gradients[name].any(), f"no gradient in {name}", found, "detach, `needed`")


def huge_gaps_stay_finite(objective: Objective) -> None:
    """Loss and gradient are finite 10,000 nats from the reference, in float32 and bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        start = example(objective, dtype=dtype, scale=0.0)
        names = names_of(start, "policy")
        for gap in (1e4, -1e4):
            far = tensors_of(moved(start, gap))
            for some in [names, *([name] for name in names)]:
                logps = with_tensors(start, {name: far[name] for name in some})
                slopes = slopes_of(lambda given: objective(given).loss, logps)
                for name, value in {"loss": objective(logps).loss, **slopes}.items():
                    found = f"{name} {value.tolist()} with {some} moved {gap:g} nats, {dtype}"
                    look = "exp and log, to be made stable or clamped before a torch.where"
                    expect(bool(value.isfinite().all()), "finite numbers", found, look)


def calling_changes_nothing(objective: Objective) -> None:
    """Input, state and extras stay as they were, and the next call gives the same bits."""
    logps, before = example(objective), example(objective)
    first = objective(logps).loss
    objective.observe(logps)
    for name, value in tensors_of(before).items():
        now = tensors_of(logps)[name]
        expect(torch.equal(now, value), f"{name} as it was", f"{now}", "operations ending in _")
    old, new = before.state, logps.state
    expect(new == old, f"the state {old}", f"{new}", "assignments to it")
    objective(example(objective, seed=1))
    again = objective(before).loss
    expect(torch.equal(first, again), f"{first} again", f"{again}", "hidden state, randomness")


def batch_is_its_halves(objective: Objective) -> None:
    """The losses of 8 rows are those of 4 and 4, bit for bit. For objectives not `coupled`."""
    whole = example(objective)
    halves = torch.cat([objective(some_rows(whole, range(i, i + 4))).loss for i in (0, 4)])
    found, look = objective(whole).loss, "means over the batch, to be declared as `coupled`"
    expect(torch.equal(found, halves), f"{halves} as in halves", f"{found}", look)


def order_does_not_matter(objective: Objective) -> None:
    """Rows in another order have their losses in that order."""
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    logps = example(objective, dtype=torch.float64)
    expected, found = objective(logps).loss[order], objective(some_rows(logps, order)).loss
    same = torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
    expect(same, f"{expected}", f"{found}", "what looks at the place of a row")


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
        names = [part] if part in logps.extras else names_of(logps, part)
        new = [{name: tensors_of(other)[name] for name in names} for other in others]
        found = any(_differ(objective, logps, with_tensors(logps, tensors)) for tensors in new)
        expect(found == declared, f"{part} to matter: {declared}", f"{found}", "its `needs...`")
    for name in objective.needs:
        message = "no error"
        try:
            objective(without_extra(logps, name))
        except (ValueError, FastslowError) as error:  # The latter from a file of the user's own.
            message = str(error)
        expect(name in message, f"a ValueError about the missing {name}", message, "`needed`")


def ties_matter_as_declared(objective: Objective) -> None:
    """The loss depends on the extra `tie` exactly if `learns_ties`; without it no pair is one."""
    none, look = without_extra(example(objective, scale=4.0), "tie"), "where extras['tie'] is read"
    no, yes = (
        replace(none, extras={**none.extras, "tie": torch.full((8,), tie)}) for tie in (0.0, 1.0)
    )
    heeds, declared = _differ(objective, no, yes), objective.learns_ties
    expect(heeds == declared, f"ties to matter: {declared}", f"{heeds}", look)
    expect(not _differ(objective, none, no), "no ties without `tie`", "other losses", look)


def state_is_plain_numbers(objective: Objective) -> None:
    """The state is finite floats, kept by JSON, with the same names from the first step on."""
    first, later = objective.initial_state(), example(objective).state
    expect(set(first) == set(later), f"{sorted(first)}", f"{sorted(later)}", "`advance`")
    for state in (first, later):
        plain = all(type(value) is float and math.isfinite(value) for value in state.values())
        kept = plain and json.loads(json.dumps(state)) == state
        expect(kept, "finite floats", f"{state}", "tensors and integers in the state")


def state_advances_purely(objective: Objective) -> None:
    """What is observed in a batch is the sum over its halves, and `advance` a pure function."""
    logps = example(objective, dtype=torch.float64, grad=True)
    first, second = (objective.observe(some_rows(logps, range(i, i + 4))) for i in (0, 4))
    for name, value in objective.observe(logps).items():
        total = first[name] + second[name]
        ok = value.shape == () and not value.requires_grad and torch.allclose(value, total)
        expect(ok, f"{name} = {total.detach()}, no gradient", f"{value}", "means in `observe`")
    state, sums = dict(logps.state), {k: float(v) for k, v in objective.observe(logps).items()}
    before = (dict(state), dict(sums))
    new, again = (objective.advance(state, sums, 8) for _ in range(2))
    expect((state, sums) == before, f"{before}", f"{(state, sums)}", "assignments in `advance`")
    expect(new == again != state, f"a new state, {new} twice", f"{again}", "`advance`")


def state_matters(objective: Objective) -> None:
    """The loss depends on the state, and that without any is that of the initial state."""
    later, look = example(objective, 64, scale=4.0), "what is done with `logps.state`"
    first, none = (replace(later, state=state) for state in (objective.initial_state(), {}))
    expect(_differ(objective, first, later), "a loss that heeds the state", "none", look)
    expect(not _differ(objective, first, none), "{} as a first state", "other losses", look)


def better_is_cheaper(objective: Objective) -> None:
    """Of margins from 10 nats below to 10 above the reference's the cheapest is above."""
    logps = without_extra(example(objective, dtype=torch.float64, scale=0.5, state={}), "tie")
    moves = (-10.0, -3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 3.0, 10.0)
    losses = {by: objective(moved(logps, by)).loss.mean().item() for by in moves}
    least = min(losses, key=losses.__getitem__)
    expect(
        least > 0,
        "the least loss where margins have grown",
        f"it where they changed by {least:g} nats, so training would lower them",
        "the sign of the margin",
    )


def starts_towards_the_better(objective: Objective) -> None:
    """At the reference the loss falls as margins grow, and no better response alone raises it."""
    logps = example(objective, dtype=torch.float64, scale=0.5, state={})
    logps = moved(without_extra(logps, "tie"), 0.0)
    look = "the sign of the margin, and the gradient where it is 0"
    gradients, total = slopes_of(lambda given: objective(given).loss, logps), 0.0
    for name, up in slopes_of(lambda given: given.policy_margin, logps).items():
        total += (gradients[name] * up).sum().item()
        alone = gradients[name][up > 0]
        expect(bool((alone <= 1e-9).all()), f"no slope above 0 in {name}", f"{alone}", look)
    expect(total < 0, "a slope below 0 as margins grow", f"{total}", look)


def learns_three_answers(objective: Objective) -> None:
    """Descent in a world of three answers ends with all margins above the reference's.

    A softmax over three logits starts at the reference, which holds them alike, and takes 40 steps
    of 0.05 nats along the gradient, for any size. All margins must grow, by more than 0.1
    nats on average.
    """
    logits, state = torch.zeros(3, dtype=torch.float64), objective.initial_state()
    for seed in range(40):
        logps = replace(pretend_world(objective, logits.requires_grad_(), seed), state=state)
        slope = torch.autograd.grad(objective(logps).loss.mean(), logits)[0]
        state = next_state(objective, logps)
        logits = (logits - 0.05 * slope / slope.abs().max().clamp(min=1e-12)).detach()
    grown = pretend_world(objective, logits, 0).delta
    ok, look = bool((grown > 0).all()) and grown.mean().item() > 0.1, "wrong minima of the loss"
    expect(ok, "margins that grew", f"growth by {grown.tolist()} nats", look)


def _differ(objective: Objective, first: Any, second: Any) -> bool:
    return not torch.equal(objective(first).loss, objective(second).loss)
