"""PPO and ESPO as runs: what is learned from, how often, and going on after a stop."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import tiny
import torch
from tiers import fast
from tiny import components

from fastslow import training
from fastslow.adapters import BASE
from fastslow.errors import ConfigError
from fastslow.training.on_policy.critic import CRITIC

RULE = "def score(prompt, answer):\n    return answer.count('e') - 0.1 * len(answer)\n"
SHORT = ("train.max_steps=6", "eval.num_prompts=2", "train.batch_size=4", "checkpoint.every=2",
         "chase=null")  # fmt: skip


@pytest.fixture
def ppo(recipe, tmp_path):
    """Makes a recipe of PPO; keyword arguments are of its `online`."""
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)

    def make(*overrides, name="ppo", **section):
        settings = {"max_new_tokens": 8, "temperature": 1.5, "num_generations": 1} | section
        judge = {"kind": "rule", "file": str(rule)}
        objective = {"name": name}
        return recipe(*SHORT, *overrides, online=settings, judge=judge, objective=objective)

    return make


def events(folder, kind):
    lines = (Path(folder) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.mark.parametrize("answers", [1, 3])
def test_answers_come_appraised_token_by_token(ppo, answers):
    run = components(ppo(num_generations=answers, steps_per_generation=2))
    head = run.learner.state.modules.head(CRITIC)
    head.data.copy_(torch.randn(head.shape) * 0.1)
    first, second = (next(iter(run.reader)) for _ in range(2))
    advantages = []
    for item in [*first, *second]:
        batch = run.learner.policies.batch([item.tree])
        lengths = batch.lengths.tolist()
        assert len(lengths) == answers
        for name, wanted in {
            "sampled": run.learner.policies.measure("policy", batch, temperature=1.5).tokens,
            "value": run.learner.policies.values(CRITIC, batch, where="predictors"),
        }.items():
            known = item.of_tokens[name]
            assert [len(own) for own in known] == lengths
            flat = [value for own in known for value in own]
            assert flat == pytest.approx(wanted.tolist(), abs=1e-4)
        reference = run.learner.policies.measure(BASE, batch, temperature=1.5).tokens.split(lengths)
        for place, score in enumerate(item.example.scores):
            then = torch.tensor(item.of_tokens["sampled"][place])
            rewards = -0.05 * (then - reference[place])
            rewards[-1] += score
            # With a whole horizon and no discount returns would be the rewards that follow; at 0.95
            # the last one still is.
            assert item.of_tokens["return"][place][-1] == pytest.approx(
                rewards[-1].item(), abs=1e-3
            )
        advantages += [value for own in item.of_tokens["advantage"] for value in own]
    advantages = torch.tensor(advantages)
    assert advantages.mean().abs() < 1e-5
    assert advantages.square().mean().item() == pytest.approx(1, abs=1e-4)


def test_every_pass_goes_over_the_same_answers_in_its_own_order(ppo):
    made = ppo(steps_per_generation=2, num_iterations=2)
    reader = iter(components(made).reader)
    batches = [[item.example.responses for item in next(reader)] for _ in range(6)]
    sets = [batches[0] + batches[1], batches[2] + batches[3], batches[4] + batches[5]]
    assert sorted(sets[0]) == sorted(sets[1]) != sorted(sets[2]) and sets[0] != sets[1]
    training.train(made)
    steps = tiny.steps(made.output_dir)
    assert [step["staleness"] for step in steps] == [0, 1, 2, 3, 0, 1]
    assert [step["answers"] for step in steps] == [8] * 4 + [16] * 2
    assert steps[0]["modules"]["policy"]["ratio_deviation"] == pytest.approx(0, abs=1e-4)
    assert all(step["modules"]["policy"]["ratio_deviation"] > 1e-3 for step in steps[1:4])


def test_espo_leaves_answers_that_it_has_outgrown_and_never_goes_beyond(ppo):
    made = ppo(
        "objective.max_deviation=0.05", "train.max_steps=12", "train.learning_rate=0.02",
        name="espo", num_iterations=50,
    )  # fmt: skip
    training.train(made)
    steps = tiny.steps(made.output_dir)
    exceeded = events(made.output_dir, "exceeded_max_ratio")
    assert len(steps) == 12
    assert all(step["modules"]["policy"]["ratio_deviation"] <= 0.05 for step in steps)
    assert exceeded and all(event["ratio_deviation"] > 0.05 for event in exceeded)
    fresh = [b["step"] - 1 for a, b in pairwise(steps) if b["staleness"] <= a["staleness"]]
    assert [event["step"] for event in exceeded if event["step"] < 12] == fresh


@pytest.mark.parametrize("name", fast(["ppo"], ["ppo", "espo"]))
def test_a_stopped_run_goes_on_bit_for_bit(ppo, tmp_path, name):
    def make(folder):
        limit = ("objective.max_deviation=0.1",) if name == "espo" else ()
        return ppo(
            f"output_dir={tmp_path / folder}",
            "lora.dropout=0.1",
            *limit,
            name=name,
            num_iterations=3,
        )

    def stop(event):
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(make("broken"), listener=stop)
    assert training.train(make("broken")).data == training.train(make("whole")).data
    whole, broken = (tiny.adapters(tmp_path / folder) for folder in ("whole", "broken"))
    assert tiny.same(whole, broken)


def test_all_passes_are_planned_and_dropout_is_off(ppo):
    made = ppo(
        "train.max_steps=null", "lora.dropout=0.5", "train.schedule=linear", num_iterations=2
    )
    run = components(made)
    assert run.total_steps == 2 * 24
    training.train(ppo("train.max_steps=1", "lora.dropout=0.5", f"output_dir={made.output_dir}-1"))
    (step,) = tiny.steps(f"{made.output_dir}-1")
    assert step["modules"]["policy"]["ratio_deviation"] == pytest.approx(0, abs=1e-4)


def test_micro_batches_give_the_same_run(ppo, tmp_path):
    runs = []
    for size in ("null", "2"):
        folder = tmp_path / f"run-{size}"
        training.train(
            ppo(f"output_dir={folder}", f"train.micro_batch_size={size}", "train.max_steps=3")
        )
        runs.append(tiny.adapters(folder)["policy"])
    for key, value in runs[0].items():
        torch.testing.assert_close(runs[1][key], value, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "espo"])
def test_the_score_rises(ppo, name):
    made = ppo(
        "train.max_steps=60", "train.epochs=8", "train.learning_rate=0.03", "eval.num_prompts=16",
        "eval.num_generations=8", "eval.max_new_tokens=8", "train.batch_size=32", "budget=null",
        name=name, num_iterations=4, temperature=1.0,
    )  # fmt: skip
    measured = training.train(made).eval
    assert measured["final"]["reward"] > measured["start"]["reward"] + 0.1
    assert measured["final"]["win_rate"] > 0.55


def test_the_critic_learns_what_answers_will_score(ppo):
    made = ppo(
        "train.max_steps=60", "train.batch_size=16", "train.schedule=constant",
        "objective.value_clip=100", num_iterations=60,
    )  # fmt: skip
    training.train(made)
    steps = tiny.steps(made.output_dir)
    assert steps[0]["critic"]["explained_variance"] < 0.05
    assert steps[-1]["critic"]["explained_variance"] > 0.6
    assert steps[-1]["critic"]["loss"] < 0.5 * steps[0]["critic"]["loss"]


def test_the_critic_neither_moves_the_policy_nor_is_left_as_an_answer(ppo, tmp_path):
    runs = []
    for rate in ("1.0", "0.5"):
        folder = tmp_path / f"run-{rate}"
        made = ppo(f"output_dir={folder}", "train.max_steps=1", critic_rate=float(rate))
        training.train(made)
        runs.append(tiny.adapters(folder))
    assert list(runs[0]) == ["policy"] and tiny.same(*runs)


def test_fast_and_slow_learn_from_the_leaders_answers(ppo):
    made = ppo("chase={}", "train.max_steps=4", num_generations=2, num_iterations=2)
    training.train(made)
    last = tiny.steps(made.output_dir)[-1]["modules"]
    assert last["fast"]["grad_norm"] > 0 and last["slow"]["grad_norm"] > 0


@pytest.mark.parametrize(
    ("overrides", "section", "message"),
    [
        (("online=null", "judge=null"), {}, "objective ppo: is on-policy; set online and judge"),
        (("chase={}",), {}, "chase.alpha: needs two completions per prompt"),
        (("objective.name=dpo",), {}, "objective dpo compares completions, so it needs 2 or more"),
        (("objective.name=rloo",), {"num_generations": 2, "critic_rate": 2.0},
         "rloo has no critic"),
        ((), {"offline_fraction": 0.5},
         "online.offline_fraction: objective ppo is on-policy; remove it"),
        (('judge={"kind": "llm", "url": "http://127.0.0.1:9/v1", "model": "m"}',), {},
         "a judge of kind llm compares completions"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(ppo, overrides, section, message):
    with pytest.raises(ConfigError, match=message):
        training.train(ppo(*overrides, **section))
