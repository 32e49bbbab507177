"""Answers and seconds of a training, without the time that measuring took."""

import pytest

from fastslow.bench import curve
from fastslow.bench.curve import Curve


@pytest.fixture
def clock(monkeypatch):
    """Sets the time that is."""
    now = [100.0]
    monkeypatch.setattr(curve.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, 100.0 + seconds)


def evaluation(moment, step, reward=0.0):
    measured = {"reverse_kl": 1.0, "accuracy": 0.5, "mean_length": 7.0, "win_rate": 0.5}
    return {"event": "eval", "moment": moment, "step": step, "reward": reward, **measured}


def told(clock, events, **settings):
    found = Curve(**{"answers_each": 4} | settings)
    for second, event in events:
        clock(second)
        found(event)
    return [(p["answers"], p["seconds"], p["reward"]) for p in found.points]


def test_steps_with_fresh_answers(clock):
    step = {"event": "step"}
    measuring = {"event": "progress", "task": "measuring (eval)"}
    assert told(clock, [
        (1, {"event": "start"}), (3, evaluation("start", 0)), (5, step | {"answers": 64}),
        (6, measuring), (9, evaluation("eval", 1, 0.3)), (12, step | {"answers": 128}),
        (13, evaluation("eval", 2, 0.6)), (15, evaluation("final", 2, 0.6)),
    ]) == [(0, 0, 0.0), (64, 3, 0.3), (128, 6, 0.6)]  # fmt: skip


def test_rounds_count_all_answers_and_begin_once(clock):
    answers = {"event": "answers", "prompts": 10}
    assert told(clock, [
        (2, answers), (3, evaluation("start", 0)), (4, {"event": "step"}),
        (6, evaluation("final", 1, 0.2)), (8, answers), (9, evaluation("start", 0, 0.2)),
        (10, {"event": "step"}), (11, evaluation("final", 1, 0.5)),
    ]) == [(0, 0, 0.0), (40, 3, 0.2), (80, 6, 0.5)]  # fmt: skip
