"""`fastslow.testing` catches what is broken, by the check that is meant to."""

import itertools
from dataclasses import dataclass, field, fields, replace

import pytest
import torch
from torch.nn.functional import logsigmoid

from fastslow.errors import ConfigError
from fastslow.objectives import CONTAINERS, Objective, make_objective
from fastslow.objectives.containers import needed
from fastslow.objectives.contract import with_rewards
from fastslow.testing import RANGES, check_objective, checks, example


@dataclass(frozen=True)
class Fine(Objective):
    """DPO; the others break it in one place each."""

    beta: float = 0.1

    def u(self, logps):
        return self.beta * logps.delta

    def loss(self, logps):
        return -logsigmoid(self.u(logps))

    def __call__(self, logps):
        return with_rewards(self.loss(logps), logps, self.beta)


class WrongGradient(Fine):
    def loss(self, logps):
        return -logsigmoid(self.u(logps)) * (1 + logps.delta.detach() ** 2)


class NoGradient(Fine):
    def loss(self, logps):
        return super().loss(logps).detach()


class Float16Loss(Fine):
    def loss(self, logps):
        return super().loss(logps).half()


class MeanLoss(Fine):
    def loss(self, logps):
        return super().loss(logps).mean()


class RewardWithGradient(Fine):
    def __call__(self, logps):
        return replace(super().__call__(logps), chosen_reward=logps.chosen_log_ratio)


class CoupledUndeclared(Fine):
    def loss(self, logps):
        u = self.u(logps)
        return -logsigmoid(u - u.mean())


class MutatesInput(Fine):
    def loss(self, logps):
        logps.reference_chosen.add_(1.0)
        return super().loss(logps)


class MutatesState(Fine):
    def loss(self, logps):
        logps.state["seen"] = 1.0
        return super().loss(logps)


class CountsItsCalls(Fine):
    calls = itertools.count(1)

    def loss(self, logps):
        return super().loss(logps) * next(self.calls)


class ReferenceUndeclared(Fine):
    needs_reference = False


class ReferenceNotUsed(Fine):
    def u(self, logps):
        return self.beta * logps.policy_margin


class LengthsUndeclared(Fine):
    def u(self, logps):
        return super().u(logps) / logps.chosen_length


class LengthsNotUsed(Fine):
    needs_lengths = True


class ExtraUndeclared(Fine):
    def u(self, logps):
        return super().u(logps) - logps.extras.get("score_gap", torch.zeros(()))


class ExtraNotUsed(Fine):
    needs = ("difficulty",)


class ExtraMissedSilently(Fine):
    needs = ("difficulty",)

    def u(self, logps):
        return super().u(logps) - logps.extras.get("difficulty", torch.zeros(()))


class ExtraWithGradient(Fine):
    needs = ("difficulty",)

    def u(self, logps):
        needed(logps, "difficulty")
        return super().u(logps) - logps.extras["difficulty"]


class ReferenceWithGradient(Fine):
    def u(self, logps):
        return super().u(logps) - 0.1 * logps.reference_chosen


class TiesUndeclared(Fine):
    def loss(self, logps):
        tie = logps.extras.get("tie", torch.zeros(()))
        return super().loss(logps) * (1 - tie)


class TiesNotUsed(Fine):
    learns_ties = True


class TiesByDefault(Fine):
    learns_ties = True

    def loss(self, logps):
        tie = logps.extras.get("tie", torch.ones(()))
        return torch.where(tie > 0, self.u(logps) ** 2, super().loss(logps))


class Overflows(Fine):
    def loss(self, logps):
        return torch.log1p(torch.exp(-self.u(logps)))


class PlaceMatters(Fine):
    def loss(self, logps):
        loss = super().loss(logps)
        return loss * torch.arange(1, len(loss) + 1)


class WrongSign(Fine):
    def u(self, logps):
        return -super().u(logps)


class RaisesTheChosen(Fine):
    """Its margin grows at first, but the loss rises with the chosen response."""

    def u(self, logps):
        return -self.beta * (logps.chosen_log_ratio + 3 * logps.rejected_log_ratio)


class GivesUpAtOnce(Fine):
    """Right at the reference, with a minimum of the loss just above it."""

    def loss(self, logps):
        return (logps.delta - 1e-3) ** 2


@dataclass(frozen=True)
class Remembers(Fine):
    """Its target is the mean log-ratio so far."""

    def u(self, logps):
        return super().u(logps) - 0.1 * self.mean(logps.state)

    def mean(self, state):
        return state.get("total", 0.0) / max(state.get("count", 0.0), 1.0)

    def initial_state(self):
        return {"total": 0.0, "count": 0.0}

    def observe(self, logps):
        return {"total": logps.delta.detach().double().sum()}

    def advance(self, state, sums, count):
        total = state.get("total", 0.0) + sums["total"]
        return {"total": total, "count": state.get("count", 0.0) + count}


class ObservesMeans(Remembers):
    def observe(self, logps):
        return {"total": logps.delta.detach().double().mean()}


class ObservesWithGradient(Remembers):
    def observe(self, logps):
        return {"total": logps.delta.double().sum()}


class AdvanceMutates(Remembers):
    def advance(self, state, sums, count):
        state = state if type(state) is dict else dict(state)
        state["total"] = state.get("total", 0.0) + sums["total"]
        state["count"] = state.get("count", 0.0) + count
        return state


class StateOfTensors(Remembers):
    def advance(self, state, sums, count):
        return {key: torch.as_tensor(v) for key, v in super().advance(state, sums, count).items()}


class StateForgotten(Remembers):
    def u(self, logps):
        return Fine.u(self, logps)


class StateFromNothing(Remembers):
    def mean(self, state):
        return super().mean(state) if state else 5.0


class StateOfOtherNames(Remembers):
    def advance(self, state, sums, count):
        return {**super().advance(state, sums, count), "steps": 1.0}


BROKEN = [
    (WrongGradient, "gradient_is_derivative"),
    (NoGradient, "gradient_is_derivative"),
    (NoGradient, "one_loss_and_reward_per_row"),
    (NoGradient, "no_gradient_beyond_the_policy"),
    (Float16Loss, "one_loss_and_reward_per_row"),
    (MeanLoss, "one_loss_and_reward_per_row"),
    (RewardWithGradient, "one_loss_and_reward_per_row"),
    (CoupledUndeclared, "batch_is_its_halves"),
    (MutatesInput, "calling_changes_nothing"),
    (MutatesState, "calling_changes_nothing"),
    (CountsItsCalls, "calling_changes_nothing"),
    (ReferenceUndeclared, "what_matters_is_declared"),
    (ReferenceNotUsed, "what_matters_is_declared"),
    (LengthsUndeclared, "what_matters_is_declared"),
    (LengthsNotUsed, "what_matters_is_declared"),
    (ExtraUndeclared, "what_matters_is_declared"),
    (ExtraNotUsed, "what_matters_is_declared"),
    (ExtraMissedSilently, "what_matters_is_declared"),
    (ExtraWithGradient, "no_gradient_beyond_the_policy"),
    (ReferenceWithGradient, "no_gradient_beyond_the_policy"),
    (TiesUndeclared, "ties_matter_as_declared"),
    (TiesNotUsed, "ties_matter_as_declared"),
    (TiesByDefault, "ties_matter_as_declared"),
    (Overflows, "huge_gaps_stay_finite"),
    (PlaceMatters, "order_does_not_matter"),
    (WrongSign, "better_is_cheaper"),
    (WrongSign, "starts_towards_the_better"),
    (WrongSign, "learns_three_answers"),
    (RaisesTheChosen, "starts_towards_the_better"),
    (GivesUpAtOnce, "learns_three_answers"),
    (ObservesMeans, "state_advances_purely"),
    (ObservesWithGradient, "state_advances_purely"),
    (AdvanceMutates, "state_advances_purely"),
    (StateOfTensors, "state_is_plain_numbers"),
    (StateOfOtherNames, "state_is_plain_numbers"),
    (StateForgotten, "state_matters"),
    (StateFromNothing, "state_matters"),
]


@pytest.mark.parametrize("kind", [Fine, Remembers])
def test_what_is_fine_passes(kind):
    check_objective(kind())


@pytest.mark.parametrize(("kind", "check"), BROKEN, ids=lambda v: getattr(v, "__name__", v))
def test_what_is_broken_is_caught(kind, check):
    with pytest.raises(AssertionError, match=r"(?s)^expected .*; found .*; look at "):
        checks(kind())[check]()


def test_every_check_catches_something():
    assert {check for _, check in BROKEN} == set(checks(Remembers()))


def test_all_failures_are_listed_and_others_not():
    with pytest.raises(AssertionError) as caught:
        check_objective(WrongSign())
    lines = str(caught.value).split("\n- ")
    assert lines[0] == "WrongSign(beta=0.1): 3 checks failed"
    names = ["better_is_cheaper", "learns_three_answers", "starts_towards_the_better"]
    assert [line.split(":")[0] for line in lines[1:]] == names
    check_objective(WrongSign(), but=names)


def test_errors_of_an_objective_are_failures_too():
    class Raises(Fine):
        def loss(self, logps):
            raise KeyError("difficulty")

    with pytest.raises(AssertionError, match="gives_an_output: KeyError: 'difficulty'"):
        check_objective(Raises())


def test_what_gives_no_output_is_told_so_once():
    class Bare(Fine):
        def __call__(self, logps):
            return self.loss(logps)

    with pytest.raises(AssertionError) as caught:
        check_objective(Bare())
    said = str(caught.value)
    assert said.count("\n- ") == 1 and "expected an ObjectiveOutput(" in said
    assert "found a Tensor" in said


def test_a_class_and_a_function_are_checked_too():
    check_objective(Fine)
    check_objective(lambda logps: -logsigmoid(0.1 * logps.delta))
    with pytest.raises(AssertionError, match="better_is_cheaper: .* training would lower them"):
        check_objective(lambda logps: logsigmoid(0.1 * logps.delta))


def test_what_a_recipe_would_refuse_is_refused():
    class Plain(Objective):
        beta = 0.1

        def __call__(self, logps):
            return with_rewards(-logsigmoid(self.beta * logps.delta), logps, self.beta)

    for value, message in (
        (Plain(), "Plain is no dataclass"),
        (3, "got 3; give a name"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_objective(value)


def test_names_that_are_no_checks_are_refused():
    with pytest.raises(ValueError, match="got \\['speed'\\]; the checks are"):
        check_objective(Fine(), but=["speed"])


@pytest.mark.parametrize("name", ["davidson", "wpo", "exo_ranked", "kto", "bco", "sft"])
def test_examples_have_what_is_needed(name):
    objective = make_objective(name)
    logps = example(objective, 50, dtype=torch.float64, scale=3.0, grad=True)
    assert isinstance(logps, CONTAINERS[objective.takes])
    assert {*objective.needs} <= {*logps.extras}
    assert set(logps.state) == set(objective.initial_state())
    assert not logps.state or logps.state != objective.initial_state()
    for key in objective.needs:
        low, high = RANGES[key]
        assert (logps.extras[key] >= low).all() and (logps.extras[key] <= high).all()
    for name in [f.name for f in fields(logps) if f.name.startswith("policy")]:
        values = getattr(logps, name)
        assert values.requires_grad and values.dtype == torch.float64
        assert (values <= 0).all() and (values >= -3).all() and values.std() > 0.5


def test_examples_of_rankings_are_ordered():
    logps = example(make_objective("exo_ranked"), 50)
    assert logps.present[:, :2].all() and logps.present[::2].all()
    assert (logps.rank[:, 0] == 0).all() and (logps.rank.diff() >= 0).all()
    assert (logps.rank.diff() == 0).any() and (logps.extras["score"].diff() <= 0).all()
    assert torch.equal(logps.rank.diff() == 0, logps.extras["score"].diff() == 0)


def test_examples_are_those_of_their_seed():
    objective = make_objective("dpo")
    first, again, other = (example(objective, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.policy_chosen, again.policy_chosen)
    assert not torch.equal(first.policy_chosen, other.policy_chosen)


def test_extras_of_ones_own_come_with_a_range(monkeypatch):
    @dataclass(frozen=True)
    class Harder(Fine):
        needs: tuple[str, ...] = field(default=("difficulty",), init=False)

        def u(self, logps):
            return super().u(logps) - needed(logps, "difficulty")

    check_objective(Harder())
    monkeypatch.setitem(RANGES, "difficulty", (5.0, 6.0))
    values = example(Harder()).extras["difficulty"]
    assert (values >= 5).all() and (values <= 6).all()
