"""Pairs that the policy has outgrown are passed over, and the rest learned as ever."""

import pytest
import tiny
from tiny import components

from fastslow import training
from fastslow.errors import ConfigError, DataError, JudgeError
from fastslow.training.data.batch_reader import BatchReader

RULE = """
def score(prompt, answer):
    stored = answer.startswith("The ") and answer.endswith(".")
    return ({}) if stored else 0.0
"""
WARM = RULE.format("0.5 if 'warm' in answer else -1.0")
ALL = RULE.format("1.0")
NONE = RULE.format("-1.0")
SHORT = ("train.max_steps=4", "data.eval=null", "train.batch_size=4", "checkpoint.every=2")


@pytest.fixture
def filtered(recipe, tmp_path):
    def make(rule, *overrides, **section):
        (tmp_path / "rule.py").write_text(rule)
        settings = {"max_new_tokens": 6} | section
        judge = {"kind": "rule", "file": str(tmp_path / "rule.py")}
        return recipe(*SHORT, *overrides, filter=settings, judge=judge)

    return make


def test_where_no_answer_is_better_it_is_the_run_without(filtered, recipe, tmp_path):
    made = filtered(ALL, f"output_dir={tmp_path / 'filtered'}")
    summary = training.train(made)
    plain = recipe(*SHORT, f"output_dir={tmp_path / 'plain'}")
    training.train(plain)
    assert tiny.same(tiny.adapters(made.output_dir), tiny.adapters(plain.output_dir))
    assert summary.data["beaten"] == 0


def test_where_every_answer_is_better_nothing_is_left(filtered):
    with pytest.raises(DataError, match="beats the chosen response of all 96 pairs"):
        training.train(filtered(NONE))


def test_pairs_whose_chosen_answer_is_beaten_are_passed_over(filtered):
    run = components(filtered(WARM, "train.max_steps=null"))
    kept = [item.example for batch in run.reader for item in batch]
    assert kept and all("warm" in pair.chosen for pair in kept)
    counts = run.reader.summary()
    assert counts["read"] == 96 and counts["beaten"] == 96 - len(kept)
    assert len({len(batch) for batch in components(filtered(WARM)).reader} - {4}) <= 1


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 0), (-0.5, 96), (0.5, 0), (-1e-9, 96)])
def test_a_tie_is_kept_below_a_threshold_of_nothing(filtered, threshold, kept):
    run = components(filtered(RULE.format("0.0"), "train.max_steps=null", threshold=threshold))
    if kept:
        assert sum(len(batch) for batch in run.reader) == kept
    else:
        with pytest.raises(DataError, match="all 96 pairs"):
            list(run.reader)


def test_a_pause_of_a_live_source_is_passed_on_and_changes_nothing(filtered, monkeypatch):
    made = filtered(WARM, "train.max_steps=null")
    expected = [[item.example for item in batch] for batch in components(made).reader]
    read = BatchReader._batches

    def with_pauses(reader):
        for batch in read(reader):
            yield []
            yield batch

    monkeypatch.setattr(BatchReader, "_batches", with_pauses)
    run = components(made)
    monkeypatch.setattr(run.reader.judge, "judge", asked_of_some(run.reader.judge.judge))
    found = [[item.example for item in batch] for batch in run.reader]
    assert [batch for batch in found if batch] == expected and [] in found


def asked_of_some(judge):
    def judged(requests):
        assert requests
        return judge(requests)

    return judged


def test_a_stopped_run_goes_on_bit_for_bit(filtered, tmp_path):
    whole = filtered(WARM, f"output_dir={tmp_path / 'whole'}")
    broken = filtered(WARM, f"output_dir={tmp_path / 'broken'}")

    def stop(event):
        if event["event"] == "step" and event["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=stop)
    assert training.train(broken).data == training.train(whole).data
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(broken.output_dir))


def test_a_judge_that_gives_up_leaves_a_checkpoint_to_go_on_from(filtered, tmp_path):
    left = tmp_path / "left"
    scored = 'answer.count("e") - 0.1 * len(answer)'
    rule = tiny.FAILING_RULE.format(left=str(left)).replace(scored, "float(answer.endswith('.'))")
    left.write_text("100000")
    whole = filtered(rule, f"output_dir={tmp_path / 'whole'}", num_generations=2)
    training.train(whole)
    left.write_text("40")
    made = filtered(rule, f"output_dir={tmp_path / 'broken'}", num_generations=2)
    with pytest.raises(JudgeError):
        training.train(made)
    left.write_text("100000")
    training.train(made)
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(made.output_dir))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("judge=null",), "judge: is missing; filter needs one to"),
        (("online={}",), "online and filter: cannot be combined"),
        (("stages=[sft, preferences]",), "filter: cannot be combined with"),
        (("filter.max_new_tokens=96",), "filter.max_new_tokens: got .*must be below"),
        (("objective.name=kto",), "filter: objective kto takes ratings"),
    ],
)
def test_what_cannot_be_is_refused(filtered, overrides, message):
    with pytest.raises(ConfigError, match=message):
        training.train(filtered(WARM, *overrides))
