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

    Raises ConfigError for anything else, ValueError for an objective that takes tokens.
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
    anything that cannot be an objective.
    """
    todo = checks(objective)
    if unknown := set(but) - set(todo):
        raise ValueError(f"got {sorted(unknown)}; the checks are {sorted(todo)}")
    failed = failed_checks(objective, but)
    if failed:
        raise AssertionError("\n- ".join([f"{objective!r}: {len(failed)} checks failed", *failed]))


def failed_checks(objective: Any, but: Iterable[str] = ()) -> list[str]:
    """Failed checks as `name: message`; empty if all pass.

    If the objective cannot be called, or gives no ObjectiveOutput, only that is listed.
    """
    objective = as_objective(objective)
    if (message := failure(partial(gives_an_output, objective))) is not None:
        return [f"{gives_an_output.__name__}: {message}"]
    todo = checks(objective)
    messages = {name: failure(todo[name]) for name in sorted(set(todo) - set(but))}
    return [f"{name}: {message}" for name, message in messages.items() if message is not None]


def failure(check: Callable[[], None]) -> str | None:
    """The message of a check that fails; None if it passes."""
    try:
        check()
    except Exception as error:  # A broken objective may raise anything.
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        return f"{kind}{error}"
    return None


def gives_an_output(objective: Objective) -> None:
    """Calling it gives an ObjectiveOutput."""
    out: Any = objective(example(objective))
    what = "an ObjectiveOutput(loss=, chosen_reward=, rejected_reward=)"
    expect(isinstance(out, ObjectiveOutput), what, f"a {type(out).__name__}", "`__call__`")


def one_loss_and_reward_per_row(objective: Objective) -> None:
    """Loss and rewards are [B], float32, or float64 if the input is; rewards have no gradient."""
    for input_dtype in (torch.float32, torch.bfloat16, torch.float64):
        out = objective(example(objective, 6, dtype=input_dtype, grad=True))
        dtype = torch.float64 if input_dtype == torch.float64 else torch.float32
        for name in ("loss", "chosen_reward", "rejected_reward"):
            value = getattr(out, name)
            expected = ([6], dtype, name == "loss")
            actual = (list(value.shape), value.dtype, value.requires_grad)
            what, look = "shape, dtype and gradient of", "reductions over rows, `widen`, detach"
            expect(actual == expected, f"{what} {name} {expected}", f"{actual}", look)


def gradient_is_derivative(objective: Objective) -> None:
    """The gradient agrees with finite differences in float64.

    Methods that treat a part that depends on the policy, such as a weight, as a constant fail by
    design: name this check in `but`.
    """
    logps = example(objective, dtype=torch.float64, scale=8.0, grad=True)
    names = names_of(logps, "policy")

    def loss(*policy: Tensor) -> Tensor:
        return objective(with_tensors(logps, dict(zip(names, policy, strict=True)))).loss

    message = ""
    try:
        gradcheck(loss, [getattr(logps, name) for name in names], eps=1e-6, atol=1e-6)
    except (RuntimeError, ValueError, FastslowError) as error:
        message = str(error).strip()
    expect(not message, "the loss's derivative as its gradient", message, "detach, clamp, steps")


def no_gradient_beyond_the_policy(objective: Objective) -> None:
    """Neither the reference nor any extra receives a gradient."""
    logps = example(objective)
    others = [*names_of(logps, "reference"), *logps.extras]
    gradients = slopes_of(lambda inputs: objective(inputs).loss, logps, others)
    for name in others:
        actual = f"{gradients[name]}"
        expect(not gradients[name].any(), f"no gradient in {name}", actual, "detach, `needed`")


def huge_gaps_stay_finite(objective: Objective) -> None:
    """Loss and gradient are finite 10,000 nats from the reference, in float32 and bfloat16."""
    for dtype in (torch.float32, torch.bfloat16):
        start = example(objective, dtype=dtype, scale=0.0)
        names = names_of(start, "policy")
        for gap in (1e4, -1e4):
            far = tensors_of(moved(start, gap))
            for subset in [names, *([name] for name in names)]:
                logps = with_tensors(start, {name: far[name] for name in subset})
                slopes = slopes_of(lambda inputs: objective(inputs).loss, logps)
                for name, value in {"loss": objective(logps).loss, **slopes}.items():
                    actual = f"{name} {value.tolist()} with {subset} moved {gap:g} nats, {dtype}"
                    look = "exp and log, to be made stable or clamped before a torch.where"
                    expect(bool(value.isfinite().all()), "finite numbers", actual, look)


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
    """The losses of 8 rows are those of two batches of 4, bit for bit. Unless `coupled`."""
    whole = example(objective)
    halves = torch.cat([objective(some_rows(whole, range(i, i + 4))).loss for i in (0, 4)])
    losses, look = objective(whole).loss, "means over the batch, to be declared as `coupled`"
    expect(torch.equal(losses, halves), f"{halves} as in halves", f"{losses}", look)


def order_does_not_matter(objective: Objective) -> None:
    """Reordering the rows reorders the losses."""
    order = [3, 1, 7, 0, 2, 6, 5, 4]
    logps = example(objective, dtype=torch.float64)
    expected, losses = objective(logps).loss[order], objective(some_rows(logps, order)).loss
    same = torch.allclose(losses, expected, rtol=1e-9, atol=1e-12)
    expect(same, f"{expected}", f"{losses}", "what looks at the place of a row")


def what_matters_is_declared(objective: Objective) -> None:
    """The loss depends on the reference, the lengths and each extra exactly if declared.

    They are declared by `needs_reference`, `needs_lengths` and `needs`. Undeclared extras in
    `RANGES` are tried too. A missing extra raises a ValueError that names it.
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
        matters = any(_differ(objective, logps, with_tensors(logps, tensors)) for tensors in new)
        expect(matters == declared, f"{part} to matter: {declared}", f"{matters}", "its `needs...`")
    for name in objective.needs:
        message = "no error"
        try:
            objective(without_extra(logps, name))
        except (ValueError, FastslowError) as error:  # The latter from a user's file.
            message = str(error)
        expect(name in message, f"a ValueError about the missing {name}", message, "`needed`")


def ties_matter_as_declared(objective: Objective) -> None:
    """The loss depends on the extra `tie` exactly if `learns_ties`; without it no pair is a tie."""
    plain, look = (
        without_extra(example(objective, scale=4.0), "tie"),
        "where extras['tie'] is read",
    )
    untied, tied = (
        replace(plain, extras={**plain.extras, "tie": torch.full((8,), tie)}) for tie in (0.0, 1.0)
    )
    matters, declared = _differ(objective, untied, tied), objective.learns_ties
    expect(matters == declared, f"ties to matter: {declared}", f"{matters}", look)
    expect(not _differ(objective, plain, untied), "no ties without `tie`", "other losses", look)


def state_is_plain_numbers(objective: Objective) -> None:
    """The state is finite floats that survive JSON, with the same names from the first step on."""
    first, later = objective.initial_state(), example(objective).state
    expect(set(first) == set(later), f"{sorted(first)}", f"{sorted(later)}", "`advance`")
    for state in (first, later):
        plain = all(type(value) is float and math.isfinite(value) for value in state.values())
        kept = plain and json.loads(json.dumps(state)) == state
        expect(kept, "finite floats", f"{state}", "tensors and integers in the state")


def state_advances_purely(objective: Objective) -> None:
    """`observe` of a batch is the sum over its halves, and `advance` is a pure function."""
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
    """The loss depends on the state; without a state it is that of the initial one."""
    later, look = example(objective, 64, scale=4.0), "what is done with `logps.state`"
    first, stateless = (replace(later, state=state) for state in (objective.initial_state(), {}))
    expect(_differ(objective, first, later), "a loss that heeds the state", "none", look)
    expect(not _differ(objective, first, stateless), "{} as a first state", "other losses", look)


def better_is_cheaper(objective: Objective) -> None:
    """Of margins from 10 nats below to 10 above the reference's, the lowest loss is above."""
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
    """At the reference the loss falls as margins grow; no better response alone raises it."""
    logps = example(objective, dtype=torch.float64, scale=0.5, state={})
    logps = moved(without_extra(logps, "tie"), 0.0)
    look = "the sign of the margin, and the gradient where it is 0"
    gradients, total = slopes_of(lambda inputs: objective(inputs).loss, logps), 0.0
    for name, up in slopes_of(lambda inputs: inputs.policy_margin, logps).items():
        total += (gradients[name] * up).sum().item()
        alone = gradients[name][up > 0]
        expect(bool((alone <= 1e-9).all()), f"no slope above 0 in {name}", f"{alone}", look)
    expect(total < 0, "a slope below 0 as margins grow", f"{total}", look)


def learns_three_answers(objective: Objective) -> None:
    """Descent in a world of three answers ends with all margins above the reference's.

    A softmax over three logits starts at the reference, which is uniform, and takes 40 steps of
    0.05 nats along the gradient, whatever its size. All margins must grow, by more than 0.1 nats
    on average.
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
