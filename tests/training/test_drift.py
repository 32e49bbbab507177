"""Drift is noticed when the loss rises, and only then; a run ends there and the next goes on."""

import json
import math
import random
from pathlib import Path

import pytest
import tiny
from tiers import fast

import fastslow
from fastslow import training
from fastslow.config import DriftConfig
from fastslow.errors import ConfigError
from fastslow.training.loop import drift as drift_module
from fastslow.training.loop.drift import DriftDetector

DETECTORS = ("adwin", "page_hinkley", "kswin")


def losses(count, margin, seed):
    """Logistic losses of pairs whose margin is normal around `margin(i)`."""
    draw = random.Random(seed)
    return [math.log1p(math.exp(-draw.gauss(margin(i), 1.0))) for i in range(count)]


def alarm(kind, values, **settings):
    """The number of pairs heard when the detector found a drift; None without."""
    detector = DriftDetector(DriftConfig(detector=kind, **settings))
    for count, value in enumerate(values, 1):
        if detector.update([value]):
            return count
    return None


@pytest.mark.parametrize("kind", fast(["adwin", "page_hinkley"], DETECTORS))
def test_there_is_no_false_alarm_on_steady_or_falling_loss(kind):
    for seed in range(6):
        assert alarm(kind, losses(1000, lambda i: 1.0, seed)) is None
        assert alarm(kind, losses(1000, lambda i: 3 * min(1, i / 500), seed)) is None
        assert alarm(kind, losses(1000, lambda i: -1.5 if i < 500 else 1.5, seed)) is None


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_rise_is_noticed_soon(kind):
    for seed in range(6):
        found = alarm(kind, losses(700, lambda i: 1.5 if i < 500 else -1.5, seed))
        assert found is not None and 500 < found <= 564
        slow = alarm(kind, losses(1500, lambda i: 1.5 - 3 * min(1, max(0, i - 500) / 300), seed))
        assert slow is not None and 500 < slow <= 900


@pytest.mark.parametrize("kind", DETECTORS)
def test_no_domain_is_shorter_than_the_least(kind):
    values = losses(600, lambda i: 1.5 if i < 150 else -2.0, seed=1)
    early = alarm(kind, values, min_pairs=64)
    assert 150 < early <= 214
    assert alarm(kind, values[:250], min_pairs=256) is None
    late = alarm(kind, losses(900, lambda i: 1.5 if i < 500 else -2.0, seed=1), min_pairs=500)
    assert 500 < late <= 564


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_restored_detector_decides_as_if_never_stopped(kind):
    values = losses(700, lambda i: 1.5 if i < 500 else -1.5, seed=4)
    whole = alarm(kind, values)
    for cut in (1, 300, 505, whole - 1, whole, whole + 20):
        config = DriftConfig(detector=kind)
        first, resumed = DriftDetector(config), DriftDetector(config)
        first.update(values[:cut])
        resumed.load_state(json.loads(json.dumps(first.state())))
        assert resumed.state() == first.state() and resumed.found == (cut >= whole)
        for count, value in enumerate(values[cut:], cut + 1):
            assert resumed.update([value]) == (count >= whole)


def test_pairs_heard_together_count_one_by_one():
    values = losses(700, lambda i: 1.5 if i < 500 else -1.5, seed=4)
    together = DriftDetector(DriftConfig())
    found = [together.update(values[i : i + 16]) for i in range(0, 700, 16)]
    assert found.index(True) == (alarm("adwin", values) - 1) // 16
    assert all(found[found.index(True) :])


def test_without_river_the_message_says_what_to_install(recipe, monkeypatch):
    monkeypatch.setattr(drift_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs river; install it with .*fastslow\[drift\]"):
        DriftDetector(DriftConfig())
    with pytest.raises(ConfigError, match="drift: needs river"):
        training.train(recipe("drift={}", "data.eval=null"))


@pytest.fixture(scope="module")
def turning(tmp_path_factory):
    """144 pairs, and 144 of the same kind that prefer the opposite, and 40 ties."""
    rows = tiny.rows(288, seed=7)
    for row in rows[144:]:
        row |= {"chosen": row["rejected"], "rejected": row["chosen"]}
    ties = [row | {"verdict": "tie"} for row in tiny.rows(40, seed=8)]
    return tiny.write_rows(tmp_path_factory.mktemp("turning") / "t.jsonl", rows + ties)


OPTIONS = (
    "chase=null", "data.eval=null", "data.replay_buffer_size=512", "train.schedule=constant",
    "drift.detector=adwin", "drift.min_pairs=64", "train.learning_rate=0.003",
)  # fmt: skip


def rows_learned(folder, path):
    """Numbers of the rows of one file that a run learned from."""
    memory = (Path(folder) / "memory.jsonl").read_text().splitlines()
    sources = [json.loads(line)["source"].rpartition(":") for line in memory]
    return sorted(int(row) for name, _, row in sources if name == str(path))


def test_a_run_ends_where_the_preferences_turn_and_says_so(recipe, turning, tmp_path):
    seen = []
    made = recipe(f"data.train={turning}", *OPTIONS)
    summary = training.train(made, listener=seen.append)
    assert summary.ended == "drift"
    assert 144 < summary.pairs_taken <= 144 + 96
    assert summary.pairs_taken == summary.pairs_seen == summary.steps * 8
    assert [e["pairs_seen"] for e in seen if e["event"] == "drift"] == [summary.pairs_seen]
    assert rows_learned(made.output_dir, turning) == list(range(1, summary.pairs_taken + 1))
    steady = recipe(
        f"output_dir={tmp_path / 'steady'}", f"data.train={turning}", "train.max_steps=18", *OPTIONS
    )
    assert training.train(steady).ended == "complete"

    # Stopped one step before the alarm and right at it: the same end.
    for at in (summary.steps - 1, summary.steps):
        broken = recipe(f"output_dir={tmp_path / str(at)}", f"data.train={turning}", *OPTIONS)

        def cut(event, at=at):
            if event["event"] == "step" and event["step"] == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            training.train(broken, listener=cut)
        again = training.train(broken)
        assert (again.ended, again.pairs_taken, again.hashes["adapter/policy"]) == (
            "drift", summary.pairs_taken, summary.hashes["adapter/policy"],
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("extra", [{}, {"anchor": "ewc"}, {"replay": 0.2}])
def test_stretches_between_drifts_are_the_stream_without_loss_or_repetition(
    recipe, turning, eval_file, extra
):
    settings = {"start": "continue", "weights": "uniform", **extra}
    made = recipe(
        f"data.train={turning}", *OPTIONS, f"data.eval={eval_file}", "eval.num_prompts=0",
        continual=settings,
    )  # fmt: skip
    summary = training.train(made)
    folder = Path(made.output_dir)
    assert summary.domains == ["stretch 1", "stretch 2"] and summary.measured == ["held out"]
    assert len(summary.after) == 2 and summary.metrics == {}
    runs = [json.loads((folder / run / "summary.json").read_text()) for run in summary.runs]
    assert [run["ended"] for run in runs] == ["drift", "complete"]
    later = fastslow.load_recipe(folder / summary.runs[1] / "config.yaml")
    assert later.data.skip == runs[0]["pairs_taken"]
    assert runs[1]["pairs_taken"] == 288 + 40
    first, second = (rows_learned(folder / run, turning) for run in summary.runs)
    assert first == list(range(1, runs[0]["pairs_taken"] + 1))
    assert second == list(range(runs[0]["pairs_taken"] + 1, 289))
    assert (runs[1]["pairs_seen"] > len(second)) == ("replay" in extra)
    assert (folder / "fisher" / "01.safetensors").exists() == ("anchor" in extra)
    # The same again does nothing new.
    assert training.train(made) == summary


def test_a_rest_of_ties_is_no_stretch_of_its_own(recipe, turning, tmp_path):
    whole = training.train(recipe(f"data.train={turning}", *OPTIONS))
    rows = [json.loads(line) for line in turning.read_text().splitlines()]
    rows = rows[: whole.pairs_taken] + rows[288:]
    cut = tiny.write_rows(tmp_path / "cut.jsonl", rows)
    made = recipe(
        f"output_dir={tmp_path / 'cut'}", f"data.train={cut}", *OPTIONS,
        continual={"weights": None},
    )  # fmt: skip
    summary = training.train(made)
    assert summary.domains == ["stretch 1"] and summary.policy == "last"


@pytest.mark.parametrize("kind", ["adwin", "page_hinkley"])  # KSWIN takes minutes over so many.
def test_what_a_detector_keeps_of_a_long_stream_is_bounded_and_enough(kind):
    values = losses(20_000, lambda i: 1.5, seed=2) + losses(200, lambda i: -1.5, seed=3)
    config = DriftConfig(detector=kind, min_pairs=20_001)
    whole, parted = DriftDetector(config), DriftDetector(config)
    for first in range(0, len(values), 50):
        some = values[first : first + 50]
        assert parted.update(some) == whole.update(some)
        assert parted.state() == whole.state()
        assert len(whole.state()["losses"]) <= drift_module.KEPT
        if first % 1000 == 0:  # Stopped and restored.
            state, parted = json.loads(json.dumps(parted.state())), DriftDetector(config)
            parted.load_state(state)
    assert whole.found
