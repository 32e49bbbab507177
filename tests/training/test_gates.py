"""The warning before a run that would crawl; the other gates are tested with whole runs."""

import pytest
import torch

import fastslow
from fastslow.training.loop import sanity_checks as gates


@pytest.fixture
def software_bfloat16(monkeypatch):
    """A processor that takes thirty times as long in bfloat16."""
    times = {torch.float32: 1e-5, torch.bfloat16: 3e-4}
    monkeypatch.setattr(gates, "_product_time", times.__getitem__)


def warnings(recipe, *overrides):
    seen = []
    fastslow.train(recipe("train.max_steps=1", *overrides), listener=seen.append)
    return [event["message"] for event in seen if event["event"] == "warning"]


def test_bfloat16_in_software_is_warned_of(recipe, software_bfloat16):
    (warning,) = warnings(recipe, "train.precision=mixed")
    assert "30 times as long" in warning and "train.precision=float32" in warning


def test_float32_is_not(recipe, software_bfloat16):
    assert warnings(recipe) == []


def test_nor_is_a_processor_that_can(monkeypatch):
    monkeypatch.setattr(gates, "_product_time", lambda kind: 1e-5)
    assert gates.slow_bfloat16(torch.device("cpu")) is None


def test_nor_a_gpu(software_bfloat16):
    assert gates.slow_bfloat16(torch.device("cuda")) is None
