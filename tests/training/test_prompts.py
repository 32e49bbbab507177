"""Prompts that the chat template refuses, where the policy is to answer them."""

import json
from pathlib import Path

import pytest
import tiny
from typer.testing import CliRunner

from fastslow import training
from fastslow.cli.main import app
from fastslow.config import dump_recipe
from fastslow.errors import DataError, JudgeError
from fastslow.judges import JudgeRequest, RewardModelJudge
from fastslow.records import Message
from fastslow.scoring import Encoder

STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('no system turns') }}{% endif %}{% endfor %}" + tiny.TEMPLATE
)
RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
SHORT = ("data.eval=null", "chase=null", "train.batch_size=4", "checkpoint.every=2")
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A model whose template has no place for a system turn."""
    return tiny.save_model(tmp_path_factory.mktemp("strict"), template=STRICT)


@pytest.fixture
def answering(recipe, strict, tmp_path):
    """Makes recipes that answer 40 prompts, of which some have a system turn."""
    (tmp_path / "rule.py").write_text(RULE)

    def make(kind, *overrides, refused):
        turns = ([SYSTEM] if i in refused else [] for i in range(40))
        asked = [
            {"prompt": [*before, {"role": "user", "content": f"Say {i}."}]}
            for i, before in enumerate(turns)
        ]
        prompts = tiny.write_rows(tmp_path / "prompts.jsonl", asked)
        section = {"prompts": str(prompts), "max_new_tokens": 8, "temperature": 1.5}
        section |= {"count": 1} if kind == "rounds" else {}
        judge = {"kind": "rule", "file": str(tmp_path / "rule.py")}
        return recipe(*SHORT, f"model={strict}", *overrides, judge=judge, **{kind: section})

    return make


def test_a_few_are_skipped_counted_and_shown_online(answering, tmp_path):
    summary = training.train(answering("online", refused=(3, 17)))
    assert (summary.data["read"], summary.data["dropped"]) == (38, 2)
    assert summary.skipped_examples == [
        f"{tmp_path / 'prompts.jsonl'}:{row}: the chat template refuses it: no system turns"
        for row in (4, 18)
    ]


def test_counts_of_a_stopped_run_are_those_of_a_whole_one(answering, tmp_path):
    whole = answering("online", f"output_dir={tmp_path / 'whole'}", refused=(3, 30))
    broken = answering("online", f"output_dir={tmp_path / 'broken'}", refused=(3, 30))

    def stop(event):
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=stop)
    first, second = training.train(whole), training.train(broken)
    assert (first.data, first.skipped_examples) == (second.data, second.skipped_examples)
    assert tiny.same(tiny.adapters(whole.output_dir), tiny.adapters(broken.output_dir))


def test_a_few_are_skipped_and_said_in_rounds(answering):
    seen = []
    made = answering("rounds", "train.max_steps=2", refused=(3, 17))
    training.train(made, listener=seen.append)
    warnings = [event["message"] for event in seen if event["event"] == "warning"]
    (said,) = (text for text in warnings if "prompts are not asked" in text)
    assert said.startswith("2 of 40 ") and "no system turns" in said
    counts = json.loads((Path(made.output_dir) / "answers" / "01" / "counts.json").read_text())
    assert counts["prompts"] == 38


@pytest.mark.parametrize("kind", ["online", "rounds"])
def test_many_are_refused(answering, kind):
    with pytest.raises(DataError, match="prompts are unusable, more than a tenth:\n.*no system"):
        training.train(answering(kind, refused=range(0, 40, 2)))


@pytest.mark.parametrize("kind", ["online", "rounds"])
def test_validate_finds_them_as_training_does(answering, tmp_path, kind):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(answering(kind, "data.train=[]", refused=(3, 17))))
    shown = CliRunner().invoke(app, ["validate", str(path), "--json"])
    assert shown.exit_code == 0, shown.output
    assert any("2 of 40 prompts are not asked" in w for w in json.loads(shown.stdout)["warnings"])
    path.write_text(dump_recipe(answering(kind, "data.train=[]", refused=range(0, 40, 2))))
    shown = CliRunner().invoke(app, ["validate", str(path)])
    assert isinstance(shown.exception, DataError) and "no system turns" in str(shown.exception)


def test_a_reward_model_that_cannot_read_a_prompt_is_a_judge_that_fails(strict):
    judge = RewardModelJudge.__new__(RewardModelJudge)
    tokenizer = tiny.tokenizer(STRICT)
    judge._encoder, judge._name = Encoder(tokenizer, max_length=64), "reward model r"
    asked = JudgeRequest((Message("system", "Be brief."), Message("user", "Hi.")), ("a", "b"))
    with pytest.raises(JudgeError, match="reward model r cannot read a prompt: .*no system turns"):
        judge.judge([asked])
