"""Trackers: every number under both names, one run over interruptions and parts, no run lost."""

import json
from contextvars import ContextVar

import pytest
import tiny
from accelerate import tracking

import fastslow as fs
from fastslow import training
from fastslow.errors import ConfigError
from fastslow.training.tracking.series import Series

KEPT = ContextVar("kept", default=None)
"""As trackers keep their run, which they end at the end of the process."""


class Recorder(tracking.GeneralTracker):
    """A tracker that keeps what it is told, of all runs of a test."""

    requires_logging_directory = False
    opened, fails_at, fails_to_start = [], None, False

    def __init__(self, **settings):
        super().__init__()
        self.settings, self.told, self.described, self.finished = settings, [], None, False

    @property
    def tracker(self):
        return self

    def start(self):
        KEPT.set("a run")
        if self.fails_to_start:
            raise RuntimeError("no API\nkey")
        self.opened.append(self)

    def store_init_configuration(self, values):
        self.described = values

    def log(self, values, step=None):
        if self.fails_at is not None and step >= self.fails_at:
            raise RuntimeError("the server is gone")
        self.told.append((step, values))
        print("logged", KEPT.get())

    def finish(self):
        self.finished = True


@pytest.fixture
def recorders(monkeypatch):
    """Trackers in the place of wandb and trackio; gives their class."""
    kind = type("Recording", (Recorder,), {"opened": [], "name": "wandb"})
    for name in ("wandb", "trackio"):
        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, kind)
    monkeypatch.setattr(tracking, "_available_trackers", ["wandb", "trackio"])
    return kind


def steps_of(tracker, name="train/loss"):
    return [step for step, values in tracker.told if name in values]


def test_a_run_tells_every_step_and_evaluation_under_both_names(recipe, recorders):
    made = recipe("report_to=wandb", "eval.num_prompts=2", "eval.every=4")
    events = []
    summary = training.train(made, listener=events.append)
    (one,) = recorders.opened
    assert steps_of(one) == list(range(1, summary.steps + 1)) and one.finished
    assert one.described["objective.name"] == "dpo" and one.described["lora.rank"] == 4
    told = {event["step"]: event for event in events if event["event"] == "step"}
    for step, values in one.told:
        if "train/loss" not in values:
            continue
        event, leader = told[step], told[step]["modules"][told[step]["leader"]]
        assert values["train/loss"] == event["loss"]
        assert values["train/rewards/accuracies"] == values["train/accuracy"] == event["accuracy"]
        assert values["train/rewards/margins"] == pytest.approx(0.1 * event["margin"])
        assert values["train/rewards/chosen"] == pytest.approx(0.1 * event["chosen_log_ratio"])
        assert values["train/logps/chosen"] == event["chosen_logp"]
        assert values["train/learning_rate"] == leader["learning_rate"]
        assert values["train/modules/slow/loss"] == event["modules"]["slow"]["loss"]
        assert values["train/leader"] == ["fast", "slow"].index(event["leader"])
        assert all(isinstance(value, (int, float)) for value in values.values())
    finals = [values for step, values in one.told if "eval/accuracy" in values]
    assert len(finals) == len([e for e in events if e["event"] == "eval"]) >= 3
    final = summary.eval["final"]
    assert finals[-1]["eval/reverse_kl"] == final["reverse_kl"]
    assert finals[-1]["eval/rewards/margins"] == pytest.approx(0.1 * final["margin"])


def test_who_leads_is_a_series():
    series = Series(["fast", "slow"], 0.1, rewards=False)
    event = {"event": "step", "step": 1, "leader": "slow", "loss": 1.0, "accuracy": 0.5,
             "domains": {"a<b>": 3}, "margin": None, "modules": {}}  # fmt: skip
    told = series.numbers(event)
    assert told["train/leader"] == 1 and told["train/domains/a_b_"] == 3
    assert "train/margin" not in told and "train/rewards/margins" not in told
    assert series.numbers({"event": "warning", "message": "a row"}) == {}


def test_a_reward_model_has_no_log_probs():
    event = {"event": "eval", "step": 1, "leader": "fast", "accuracy": 0.5, "chosen_logp": 2.0,
             "margin": 1.0}  # fmt: skip
    told = Series(["fast"], 1.0, rewards=True).numbers(event)
    assert "eval/rewards/accuracies" in told and "eval/logps/chosen" not in told


def stopped_after(step, stop):
    def callback(event):
        if event["event"] == "step" and event["step"] == step:
            stop.stop("enough")

    return callback


def test_a_resumed_run_continues_the_same_run_of_the_tracker(recipe, recorders):
    made = recipe("report_to=[wandb, trackio]", "eval.num_prompts=0")
    stop = fs.StopToken()
    assert training.train(made, stop=stop, listener=stopped_after(3, stop)) is None
    summary = training.train(made)
    first, second = recorders.opened[:2], recorders.opened[2:]
    assert [one.settings for one in first] == [one.settings for one in second]
    assert first[0].settings["resume"] == "allow" and first[0].settings["id"]
    assert steps_of(first[0]) == [1, 2, 3]
    assert steps_of(second[0]) == list(range(4, summary.steps + 1))
    assert first[0].described and second[0].described is None
    # A finished run is only opened.
    training.train(made)
    assert len(recorders.opened) == 4


def test_tensorboard_forgets_the_steps_that_are_told_again(
    recipe, recorders, monkeypatch, tmp_path
):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", recorders)
    monkeypatch.setattr(tracking, "_available_trackers", ["tensorboard"])
    made = recipe("report_to=tensorboard", "checkpoint.every=2", "eval.num_prompts=0")

    def fail(event):
        if event["event"] == "step" and event["step"] == 3:
            raise KeyError("killed")

    with pytest.raises(KeyError):
        training.train(made, listener=fail)
    training.train(made)
    one, two = recorders.opened
    assert steps_of(one) == [1, 2] and one.finished  # The third failed before it was told.
    place = {"run_name": "tensorboard", "logging_dir": str(tmp_path / "run")}
    assert one.settings == place and two.settings == place | {"purge_step": 3}
    assert steps_of(two)[0] == 3


def test_a_run_may_resume_with_other_trackers(recipe, recorders):
    stop = fs.StopToken()
    training.train(recipe("eval.num_prompts=0"), stop=stop, listener=stopped_after(3, stop))
    assert recorders.opened == []
    training.train(recipe("report_to=wandb", "eval.num_prompts=0"))
    (one,) = recorders.opened
    assert steps_of(one)[0] == 4 and one.described


def test_a_run_that_starts_over_is_a_new_one(recipe, recorders, tmp_path):
    import shutil

    for _ in range(2):
        training.train(recipe("report_to=wandb", "train.max_steps=1", "eval.num_prompts=0"))
        shutil.rmtree(tmp_path / "run")
    ids = [one.settings["id"] for one in recorders.opened]
    assert len(set(ids)) == 2


def test_parts_are_one_run_whose_steps_go_up(continual, recorders):
    stop, parts = fs.StopToken(), []

    def callback(event):
        if event["event"] == "domain":
            parts.append(event["name"])
        if event["event"] == "step" and len(parts) == 2 and event["step"] == 2:
            stop.stop("enough")

    made = continual("report_to=wandb", weights="uniform")
    assert training.train(made, stop=stop, listener=callback) is None
    first = steps_of(recorders.opened[0])
    assert first == list(range(1, len(first) + 1)) and len(parts) == 2
    summary = training.train(made)
    assert training.train(made) == summary  # With nothing to tell, it opens no tracker.
    one, two = recorders.opened
    assert one.settings == two.settings
    assert steps_of(two)[0] == first[-1] + 1
    assert steps_of(two) == list(range(first[-1] + 1, first[-1] + 1 + len(steps_of(two))))
    assert steps_of(two, "domains/warm/accuracy")


def test_a_tracker_that_fails_is_told_of_once_and_the_run_is_the_same(recipe, recorders, tmp_path):
    plain = training.train(recipe("eval.num_prompts=0"))
    recorders.fails_at, events = 3, []
    made = recipe("report_to=wandb", "eval.num_prompts=0", f"output_dir={tmp_path / 'other'}")
    summary = training.train(made, listener=events.append)
    messages = [event["message"] for event in events if event["event"] == "warning"]
    failed = [message for message in messages if message.startswith("report_to")]
    assert failed == ["report_to: wandb failed and gets no more metrics: the server is gone"]
    assert summary.steps == plain.steps and steps_of(recorders.opened[0]) == [1, 2]
    assert recorders.opened[0].finished, "its run is not left open"
    assert tiny.same(tiny.adapters(tmp_path / "run"), tiny.adapters(tmp_path / "other"))


def test_a_tracker_that_is_not_installed_is_one_error_before_anything_is_written(
    recipe, monkeypatch, tmp_path
):
    monkeypatch.setattr(tracking, "_available_trackers", ["wandb"])
    with pytest.raises(ConfigError, match="report_to: mlflow, trackio not installed; run `pip"):
        training.train(recipe("report_to=[mlflow, wandb, trackio]"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="report_to"):
        recipe("report_to=[neptune]")


def test_a_tracker_that_cannot_be_started_is_one_error_before_a_step(recipe, recorders):
    recorders.fails_to_start, events = True, []
    with pytest.raises(ConfigError, match="report_to: wandb cannot be started: no API key"):
        training.train(recipe("report_to=wandb"), listener=events.append)
    assert "step" not in [event["event"] for event in events]
    recorders.fails_to_start = False
    assert training.train(recipe("report_to=wandb", "eval.num_prompts=0")).steps


def test_what_a_tracker_prints_is_no_result_and_it_keeps_nothing(recipe, recorders, capsys):
    training.train(recipe("report_to=wandb", "train.max_steps=2", "eval.num_prompts=0"))
    out, err = capsys.readouterr()
    assert out == "" and err.count("logged a run") == len(recorders.opened[0].told) > 2
    assert KEPT.get() is None


def test_a_run_without_trackers_opens_none(recipe, recorders, tmp_path):
    training.train(recipe("train.max_steps=1", "eval.num_prompts=0"))
    assert recorders.opened == [] and not (tmp_path / "run" / "trackers.json").exists()


def test_what_is_kept_of_a_tracker_is_its_runs_name(recipe, recorders, tmp_path):
    training.train(recipe("report_to=wandb", "train.max_steps=1", "eval.num_prompts=0"))
    kept = json.loads((tmp_path / "run" / "trackers.json").read_text())
    assert kept == {"wandb": recorders.opened[0].settings["id"]}
