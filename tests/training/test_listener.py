"""A listener hears one event at a time, whatever a signal interrupts."""

import os
import signal
import threading

import pytest

import fastslow as fs
from fastslow import training
from fastslow.training.state.event_log import OneAtATime


def test_an_event_from_within_the_listener_waits():
    told, depth = [], 0

    def listener(event):
        nonlocal depth
        depth += 1
        assert depth == 1
        told.append(event["event"])
        if event["event"] == "first":
            one({"event": "second"})
            assert told == ["first"]
        depth -= 1

    one = OneAtATime(listener)
    one({"event": "first"})
    one({"event": "third"})
    assert told == ["first", "second", "third"]


def test_what_waited_is_told_after_an_error_too():
    told = []

    def listener(event):
        if event["event"] == "bad":
            one({"event": "waited"})
            raise ValueError("no")
        told.append(event["event"])

    one = OneAtATime(listener)
    with pytest.raises(ValueError, match="no"):
        one({"event": "bad"})
    one({"event": "next"})
    assert told == ["waited", "next"]


def test_a_signal_in_the_middle_of_a_callback_with_a_lock_stops_the_run(recipe):
    lock, told = threading.Lock(), []

    def callback(event):
        with lock:  # As trackers do; entered a second time it would never return.
            told.append(event["event"])
            if event["event"] == "step" and event["step"] == 2:
                os.kill(os.getpid(), signal.SIGINT)

    assert training.train(recipe("eval.num_prompts=0"), listener=callback) is None
    assert told.count("step") == 2 and told[told.index("stopping") - 1] == "step"
    assert told[-1] == "stopped"


def test_what_a_callback_raises_ends_the_run_which_resumes(recipe):
    made = recipe("checkpoint.every=2", "train.max_steps=5")

    def callback(event):
        if event["event"] == "step" and event["step"] == 4:
            raise OSError("the tracker is gone")

    with pytest.raises(OSError, match="the tracker is gone"):
        training.train(made, listener=callback)
    steps = []
    training.train(made, listener=lambda e: steps.append(e["step"]) if e["event"] == "step" else 0)
    assert steps == [3, 4, 5]


def test_what_cannot_be_called_is_no_callback():
    with pytest.raises(fs.ConfigError, match="callback: got 'metrics.csv'; give a function"):
        fs.train({"model": "none"}, train_dataset=[], callback="metrics.csv")
