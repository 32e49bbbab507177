"""A stopped run resumes with the judge, prompts and data that it began with, or not at all."""

import json

import pytest
import tiny

from fastslow import training
from fastslow.config import (
    ClassifierJudgeConfig,
    EnsembleJudgeConfig,
    LlmJudgeConfig,
    RewardModelJudgeConfig,
    RuleJudgeConfig,
    WorldJudgeConfig,
)
from fastslow.errors import StateError
from fastslow.judges import judge_fingerprint

RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
SHORT = ("train.max_steps=3", "train.batch_size=4", "checkpoint.every=1", "chase=null")
SAMPLING = {"max_new_tokens": 8, "temperature": 1.5}


@pytest.fixture
def files(tmp_path):
    """What runs here depend on, by name."""
    (tmp_path / "rule.py").write_text(RULE)
    tiny.write_rows(tmp_path / "prompts.jsonl", tiny.rows(80))
    tiny.write_rows(tmp_path / "held-out.jsonl", tiny.domain_rows("warm", 8))
    return {
        "judge": tmp_path / "rule.py",
        "judge in eval": tmp_path / "rule.py",
        "prompts": tmp_path / "prompts.jsonl",
        "held-out data": tmp_path / "held-out.jsonl",
    }


def stopped_after(made, event):
    """A run that was stopped at the first event of a kind."""

    def stop(given):
        if given["event"] == event:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(made, listener=stop)


def rounds(recipe, files):
    settings = SAMPLING | {"count": 2, "prompts": str(files["prompts"]), "prompts_per_round": 6}
    return recipe(*SHORT, "data.eval=null", rounds=settings, judge=rule(files))


def online(recipe, files):
    settings = SAMPLING | {"prompts": str(files["prompts"])}
    return recipe(*SHORT, "data.eval=null", online=settings, judge=rule(files))


def filtered(recipe, files):
    return recipe(*SHORT, "data.eval=null", filter=SAMPLING, judge=rule(files))


def measured(recipe, files):
    return recipe(*SHORT, eval={"num_prompts": 2, "max_new_tokens": 4, "judge": rule(files)})


def rule(files):
    return {"kind": "rule", "file": str(files["judge"])}


@pytest.mark.parametrize(
    ("kind", "stop", "changed"),
    [
        (rounds, "answers", "judge"),
        (rounds, "answers", "prompts"),
        (online, "checkpoint", "judge"),
        (online, "checkpoint", "prompts"),
        (filtered, "checkpoint", "judge"),
        (measured, "checkpoint", "judge in eval"),
    ],
)
def test_an_input_that_changed_is_named(recipe, files, kind, stop, changed):
    made = kind(recipe, files)
    stopped_after(made, stop)
    before = files[changed].read_bytes()
    files[changed].write_bytes(before + b"\n")
    with pytest.raises(StateError, match=f"the {changed} of the run in .* changed since"):
        training.train(made)
    files[changed].write_bytes(before)
    assert training.train(made) is not None


@pytest.mark.parametrize("changed", ["judge in eval", "held-out data"])
def test_domains_to_come_are_judged_and_measured_as_those_before(continual, files, changed):
    held_out = [f"continual.domains={json.dumps(_domains(continual, files))}"]
    judge = json.dumps(rule(files))
    made = continual(
        *held_out, f"eval.judge={judge}", "eval.num_prompts=2", "train.max_steps=1",
    )  # fmt: skip
    stopped_after(made, "combining")  # The first domain is trained, the second did not begin.
    files[changed].write_bytes(files[changed].read_bytes() + b"\n")
    with pytest.raises(StateError, match=f"the {changed} of the run in .* changed since"):
        training.train(made)


def _domains(continual, files):
    domains = continual().model_dump(mode="json")["continual"]["domains"]
    return [domain | {"eval": str(files["held-out data"])} for domain in domains]


def test_a_judges_fingerprint_is_of_what_its_verdicts_depend_on(tmp_path, model_folder):
    rule, world = tmp_path / "rule.py", tmp_path / "world.json"
    texts, adapter = tmp_path / "texts.jsonl", tmp_path / "adapter"
    adapter.mkdir()
    base = tmp_path / "base"
    base.mkdir()
    contents = {
        rule: RuleJudgeConfig(kind="rule", file=str(rule)),
        world: WorldJudgeConfig(kind="world", file=str(world)),
        texts: ClassifierJudgeConfig(kind="classifier", data=str(texts)),
        adapter / "adapter_model.safetensors": (
            reward := RewardModelJudgeConfig(kind="reward_model", folder=str(adapter))
        ),
        base / "model.safetensors": reward,
    }
    for path in contents:
        path.write_text("one\n")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    for path, config in contents.items():
        both = EnsembleJudgeConfig(kind="ensemble", members=[config, contents[rule]])
        before = judge_fingerprint(config), judge_fingerprint(both)
        assert before == (judge_fingerprint(config), judge_fingerprint(both))
        path.write_text("two\n")
        after = judge_fingerprint(config), judge_fingerprint(both)
        assert before[0] != after[0] and before[1] != after[1]
    asked = {"kind": "llm", "url": "http://127.0.0.1:8000/v1", "model": "m"}
    assert judge_fingerprint(LlmJudgeConfig(**asked)) == ["http://127.0.0.1:8000/v1", "m"]
