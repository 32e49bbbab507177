"""Not every device has float64 (a Mac's has not): sums in it are taken on the CPU."""

import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch

import fastslow
from fastslow.evaluation import MetricSums
from fastslow.objectives import make_objective, objective_names
from fastslow.testing import example
from fastslow.training.loop.losses import ModuleLoss, add_measured


class OnDevice(torch.Tensor):
    """A tensor of a device without float64."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.Tensor.cpu:
            return result.as_subclass(torch.Tensor)
        if isinstance(result, cls) and result.dtype == torch.float64:
            raise TypeError("this device has no float64")
        return result


def on_device(value):
    if isinstance(value, torch.Tensor):
        return value.as_subclass(OnDevice) if value.dtype == torch.float32 else value
    if isinstance(value, dict):
        return {key: on_device(item) for key, item in value.items()}
    if is_dataclass(value):
        return replace(value, **{f.name: on_device(getattr(value, f.name)) for f in fields(value)})
    return value


def test_the_device_of_these_tests_has_no_float64():
    values = on_device(torch.ones(2))
    assert values.cpu().double().sum() == 2
    with pytest.raises(TypeError, match="no float64"):
        values.double()


@pytest.mark.parametrize("name", objective_names())
def test_every_objective_and_its_statistics_do_without_it(name):
    objective = make_objective(name)
    if objective.takes == "tokens":
        return
    logps = example(objective, dtype=torch.float32)
    expected, found = objective(logps), objective(on_device(logps))
    assert torch.equal(expected.loss, found.loss.as_subclass(torch.Tensor))
    seen, here = objective.observe(logps), objective.observe(on_device(logps))
    assert {key: float(value) for key, value in seen.items()} == {
        key: float(value) for key, value in here.items()
    }


def test_what_a_step_reports_is_summed_without_it():
    logps = example(make_objective("dpo"), dtype=torch.float32)
    values = torch.tensor([0.25, -1.5, 2.0])
    found = []
    for place in (lambda value: value, on_device):
        totals = MetricSums()
        loss = ModuleLoss(*(place(values) for _ in fields(ModuleLoss)))
        loss = replace(loss, logps=place(logps))
        add_measured(totals, loss)
        found.append(totals)
    assert found[0] == found[1]


def test_nothing_becomes_float64_where_it_is():
    for path in Path(fastslow.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<!\.cpu\(\))\.double\(\)", text), path
