"""Judges that decide nothing, or fail while a run is measured: neither ends a run in silence."""

import json
from pathlib import Path

import pytest
import tiny

from fastslow import training
from fastslow.errors import DataError, JudgeError
from fastslow.judges import Judge, scored
from fastslow.training.on_policy import judging
from fastslow.training.on_policy.judging import PATIENCE, PreferenceWatch

SHORT = ("data.eval=null", "chase=null", "train.batch_size=4", "train.max_steps=30")
SAMPLING = {"max_new_tokens": 8, "temperature": 1.5}
CONSTANT = "def score(prompt, answer):\n    return 1.0\n"


class Named(Judge):
    name = "constant"


def groups(*scores):
    return [scored(of_prompt) for of_prompt in scores]


def test_one_preference_is_enough_to_go_on():
    watch = PreferenceWatch(Named())
    for _ in range(4):
        watch.see(groups(*[(1.0, 1.0)] * (PATIENCE - 2)), alike=1)
        watch.see(groups((1.0, 1.0, 2.0)))
    assert watch.in_a_row == 0
    watch.see(groups(*[(1.0, 1.0)] * (PATIENCE - 3)), alike=2)
    said = f"constant preferred no answer to any of the last {PATIENCE} prompts .2 of them got"
    with pytest.raises(JudgeError, match=said):
        watch.see(groups((0.0, 0.0)))


def test_single_answers_are_compared_over_prompts():
    watch = PreferenceWatch(Named())
    watch.see(groups(*[(float(i % 2),) for i in range(2 * PATIENCE)]))
    with pytest.raises(JudgeError, match="preferred no answer"):
        watch.see(groups(*[(1.0,)] * (PATIENCE + 1)))


@pytest.fixture
def undecided(recipe, train_file, tmp_path, monkeypatch):
    """Makes recipes of runs whose judge finds everything equal, and shortens its time."""
    rule = tmp_path / "rule.py"
    rule.write_text(CONSTANT)

    def make(kind, *overrides, patience=24):
        monkeypatch.setattr(judging, "PATIENCE", patience)
        section = SAMPLING | ({} if kind == "filter" else {"prompts": str(train_file)})
        if kind == "rounds":
            section |= {"count": 1, "prompts_per_round": 80}
        judge = {"kind": "rule", "file": str(rule)}
        return recipe(*SHORT, *overrides, judge=judge, **{kind: section})

    return make


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        ("online", "dpo"),
        ("online", "davidson"),
        ("online", "rloo"),
        ("rounds", "dpo"),
        ("filter", "dpo"),
    ],
)
def test_a_judge_that_finds_all_equal_is_given_up(undecided, kind, objective):
    made = undecided(kind, f"objective.name={objective}")
    with pytest.raises(JudgeError, match="preferred no answer to any of the last"):
        training.train(made)
    assert not (Path(made.output_dir) / "summary.json").exists()


LATE = """
from pathlib import Path

def score(prompt, answer):
    Path({seen!r}).open("a").write("x")
    return float(len(answer)) if Path({seen!r}).stat().st_size > 20 else 1.0
"""


def test_a_run_may_learn_nothing_from_its_first_batches(undecided, tmp_path):
    made = undecided("online", "objective.name=rloo", "train.max_steps=6")
    (tmp_path / "rule.py").write_text(LATE.format(seen=str(tmp_path / "seen")))
    training.train(made)
    norms = [step["modules"]["policy"]["grad_norm"] for step in tiny.steps(made.output_dir)]
    assert norms[:2] == [0.0, 0.0] and all(norms[2:])


def test_prompts_that_taught_nothing_are_no_finished_run(undecided):
    with pytest.raises(DataError, match="none of 96 prompts gave an example to learn from"):
        training.train(undecided("online", patience=1000))
    with pytest.raises(DataError, match="all 80 examples are ties"):
        training.train(undecided("rounds", patience=1000))


@pytest.mark.parametrize("objective", ["dpo", "rloo"])
def test_a_run_whose_judge_decides_no_more_keeps_what_it_learned(undecided, tmp_path, objective):
    made = undecided("online", f"objective.name={objective}")
    (tmp_path / "left").write_text("60")
    (tmp_path / "rule.py").write_text(
        tiny.FAILING_RULE.format(left=str(tmp_path / "left")).replace(
            'raise OSError("gone")', "return 1.0"
        )
    )
    with pytest.raises(JudgeError, match="preferred no answer"):
        training.train(made)
    done = len(tiny.steps(made.output_dir))
    assert done > 3
    assert (Path(made.output_dir) / "checkpoints" / f"step-{done:08d}").exists()


def test_an_evaluation_whose_judge_failed_is_made_when_the_run_resumes(recipe, tmp_path):
    left, rule = tmp_path / "left", tmp_path / "rule.py"
    rule.write_text(tiny.FAILING_RULE.format(left=str(left)))

    def made(name):
        return recipe(
            "chase=null", "train.max_steps=4", "checkpoint.every=9",
            f"output_dir={tmp_path / name}",
            eval={"every": 2, "num_prompts": 4, "num_generations": 1, "max_new_tokens": 4,
                  "max_pairs": 8, "judge": {"kind": "rule", "file": str(rule)}},
        )  # fmt: skip

    left.write_text("100000")
    training.train(made("whole"))
    left.write_text("10")  # Eight answers are scored at the start, eight after two steps.
    with pytest.raises(JudgeError, match="OSError: gone"):
        training.train(made("broken"))
    assert (tmp_path / "broken" / "checkpoints" / "step-00000002").exists()
    left.write_text("100000")
    training.train(made("broken"))
    assert tiny.same(tiny.adapters(tmp_path / "whole"), tiny.adapters(tmp_path / "broken"))
    assert evaluations(tmp_path / "whole") == evaluations(tmp_path / "broken")


def evaluations(folder):
    lines = (folder / "events.jsonl").read_text().splitlines()
    found = [event for event in map(json.loads, lines) if event["event"] == "eval"]
    assert [event["moment"] for event in found] == ["start", "eval", "final"]
    return found
