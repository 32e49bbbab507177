"""The warning before a run that would crawl; the other gates are tested with whole runs."""

import re
import time

import pytest
import torch

from fastslow import training
from fastslow.training.loop import sanity_checks as gates


@pytest.fixture
def products_take(monkeypatch):
    """Makes products of matrices take so many seconds more."""
    product = torch.mm

    def make(seconds):
        def slowed(first, second):
            time.sleep(seconds.get(first.dtype, 0.0))
            return product(first, second)

        monkeypatch.setattr(torch, "mm", slowed)

    return make


@pytest.fixture
def software_bfloat16(products_take):
    """A processor that takes far longer in bfloat16."""
    products_take({torch.bfloat16: 0.05})


def warnings(recipe, *overrides):
    seen = []
    training.train(recipe("train.max_steps=1", *overrides), listener=seen.append)
    return [event["message"] for event in seen if event["event"] == "warning"]


def test_bfloat16_in_software_is_warned_of(recipe, software_bfloat16):
    (warning,) = warnings(recipe, "train.precision=mixed")
    (times,) = re.findall(r"takes (\d+) times as long", warning)
    assert int(times) >= 5 and "train.precision=float32" in warning


def test_float32_is_not(recipe, software_bfloat16):
    assert warnings(recipe) == []


def test_nor_is_a_processor_that_can(products_take):
    products_take({torch.float32: 0.05, torch.bfloat16: 0.05})
    assert gates.slow_bfloat16(torch.device("cpu")) is None


def test_nor_a_gpu(software_bfloat16):
    assert gates.slow_bfloat16(torch.device("cuda")) is None
