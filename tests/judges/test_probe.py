"""Whether judges agree with labels and with themselves, and the command that asks."""

import json

import pytest
import tiny
from loopback import chat_reply
from typer.testing import CliRunner

from fastslow.cli.main import app
from fastslow.config import dump_recipe, load_recipe
from fastslow.errors import ConfigError
from fastslow.judges import Judge, LlmJudge, scored
from fastslow.judges.reliability import probe
from fastslow.records import Pair

PAIRS = [
    Pair(prompt="p", chosen="a long answer", rejected="short"),
    Pair(prompt="q", chosen="tiny", rejected="another long answer"),
    Pair(prompt="r", chosen="same", rejected="size"),
    Pair(prompt="s", chosen="the longest answer", rejected="it"),
]


class Longer(Judge):
    """Prefers the longer answer."""

    name = "longer"

    def judge(self, asked):
        return [scored([float(len(answer)) for answer in one.answers]) for one in asked]


class First(Longer):
    """Prefers whatever stands first, every fourth time the second."""

    def __init__(self):
        self.asked = 0

    def judge(self, asked):
        found = []
        for _ in asked:
            self.asked += 1
            found.append(scored([0.0, 1.0] if self.asked % 4 == 0 else [1.0, 0.0]))
        return found


class Always(Longer):
    """Prefers whatever stands first."""

    def judge(self, asked):
        return [scored([1.0, 0.0]) for _ in asked]


def ask(judge, pairs=PAIRS):
    seen = []
    found = probe(
        judge, pairs, max_concurrency=3, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (len(pairs), len(pairs))
    return found


def test_agreement_and_ties_are_counted_and_a_rule_is_consistent():
    found = ask(Longer())
    assert (found.pairs, found.agreement, found.ties) == (4, 2.5 / 4, 0.25)
    assert found.agreement_low < found.agreement < found.agreement_high
    assert (found.consistent, found.repeatable) == (1.0, 1.0) and found.cost == {}


def test_a_judge_that_goes_by_the_place_is_found_out():
    found = ask(First(), PAIRS * 3)
    assert found.consistent <= 0.5 and found.repeatable < 1
    always = ask(Always(), PAIRS * 3)
    assert always.agreement == 0.5 and always.agreement_high < 1, "the label stands first"
    (warning,) = always.warnings
    assert "the same answer in both orders in 0% of" in warning and not ask(Longer()).warnings


def test_a_language_model_tells_what_it_cost_and_how_often_it_contradicted_itself(loopback):
    server = loopback(
        lambda path, body: (200, chat_reply(["A"], prompt_tokens=50, completion_tokens=1,
                                            total_tokens=51))
    )  # fmt: skip
    judge = LlmJudge(url=server.url, model="m", criterion="c", api_key_env="K", timeout_s=5.0,
                     retries=0, max_concurrency=2)  # fmt: skip
    found = ask(judge)
    assert (found.ties, found.consistent, found.agreement) == (1.0, 1.0, 0.5)
    assert found.warnings == ["the judge prefers neither answer in all 4 pairs; it decides nothing"]
    assert found.cost == {
        "questions": 24, "prompt_tokens": 1200, "reply_tokens": 24, "undecided": 0,
        "contradicted": 12,
    }  # fmt: skip


def test_the_command_asks_a_recipes_judge(recipe, tmp_path):
    rule = tmp_path / "rule.py"
    rule.write_text("def score(prompt, answer):\n    return 'calm' in answer\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        dump_recipe(
            recipe("eval.num_prompts=0", eval={"judge": {"kind": "rule", "file": str(rule)}})
        )
    )
    run = CliRunner().invoke
    shown = run(app, ["judge", str(path), "--pairs", "10", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["pairs"] == 10 and found["consistent"] == 1.0
    calm = [("calm" in row["chosen"]) for row in tiny.rows(24, seed=2)[:10]]
    assert found["agreement"] == pytest.approx(0.5 + sum(calm) / 20)
    table = run(app, ["judge", str(path), "--pairs", "3"])
    assert "position consistency" in table.output and "warning" not in table.output
    rule.write_text("def score(prompt, answer):\n    print('asked')\n    return 1\n")
    shown = run(app, ["judge", str(path), "--pairs", "3", "--json"])
    assert json.loads(shown.stdout)["ties"] == 1.0
    assert "warning: the judge prefers neither answer in all 3 pairs" in shown.stderr
    path.write_text(dump_recipe(recipe()))
    assert isinstance(run(app, ["judge", str(path)]).exception, ConfigError)


def test_a_judge_needs_no_training_around_it(tmp_path, pairs):
    rule = tmp_path / "rule.py"
    rule.write_text("def score(prompt, answer):\n    return len(answer)\n")
    judging = f"judge={{kind: rule, file: {rule}}}"
    run = CliRunner().invoke
    arguments = ["judge", "model=m", judging, "--pairs", "4", "--json"]
    shown = run(app, [*arguments, "--data", str(pairs)])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["pairs"] == 4
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: m\n{judging.replace('=', ': ', 1)}\n")
    shown = run(app, ["judge", str(path), f"data.eval={pairs}", "--json"])
    assert shown.exit_code == 0, shown.output
    with pytest.raises(ConfigError, match="judge: has nothing to compare"):
        load_recipe(path, [f"data.train={pairs}"])


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in tiny.rows(8)))
    return path
