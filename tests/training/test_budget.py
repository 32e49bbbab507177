"""The KL budget: what is handed over is within it, told, and the same after a resume."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from fastslow import training
from fastslow.adapters import BASE, Factors
from fastslow.errors import ConfigError
from fastslow.streams import open_sources, read_prompts
from fastslow.training.budget.answer_kl import AnswerKl
from fastslow.training.export.open_run import open_run
from fastslow.training.loop.signals import StopToken

WILD = ("train.learning_rate=0.3", "train.schedule=constant", "train.max_steps=6")
FEW = ("eval.max_new_tokens=12", "eval.num_prompts=0")
LIMIT = 0.5
TIGHT = (f"budget.reverse_kl={LIMIT}", *WILD, *FEW)


def events(made, kind):
    lines = (Path(made.output_dir) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def fresh_kl(folder, reference=BASE, *, seed=99):
    """By other answers than the run's own, to the prompts that it kept."""
    opened = open_run(Path(folder), trust_code=False)
    prompts = list(read_prompts(open_sources([str(Path(folder) / "memory.jsonl")])))
    answers = AnswerKl(opened.policies, opened.encoder, 12)
    return answers.measure(opened.summary.leader, reference, prompts, seed=seed)


@pytest.mark.parametrize("refused", [True, False])
def test_dora_is_not_taken_to_be_the_base_at_strength_0(recipe, tmp_path, refused):
    dora = LoraConfig(r=2, target_modules="all-linear", use_dora=True, task_type="CAUSAL_LM")
    get_peft_model(tiny.model(), dora).save_pretrained(tmp_path / "dora")
    reference = "base" if refused else "previous"
    made = recipe(*TIGHT, f"reference={reference}", lora={"start_from": str(tmp_path / "dora")})
    if refused:
        with pytest.raises(ConfigError, match=r"budget: got DoRA .*budget.reference: previous"):
            training.train(made)
        return
    told = training.train(made).budget
    assert 0 < told["strength"] < 1 and told["reverse_kl"] <= LIMIT


def size(folder):
    """Norm of an adapter's whole update."""
    module = Factors.read(folder)
    return sum(float(module.update(layer).square().sum()) for layer in module.layers) ** 0.5


@pytest.mark.parametrize("chase", [("chase=null",), ("chase.slow_ratio=0.9",)])
def test_what_is_handed_over_is_within_and_what_was_learned_is_kept_beside_it(recipe, chase):
    made = recipe(*TIGHT, *chase)
    summary = training.train(made)
    told, folder = summary.budget, Path(made.output_dir)
    assert told["limit"] == LIMIT and told["strength"] < 1
    assert 0.7 * LIMIT <= told["reverse_kl"] <= LIMIT
    (event,) = events(made, "budget")
    assert event["tried"] == told["tried"] and event["module"] == summary.leader
    full = load_file(folder / told["full"] / "adapter_model.safetensors")
    kept = load_file(summary.adapter(folder, summary.leader) / "adapter_model.safetensors")
    for key, tensor in full.items():
        wanted = tensor * told["strength"] if "lora_B" in key else tensor
        assert torch.equal(kept[key], wanted), key
    assert fresh_kl(folder) < 1.4 * LIMIT  # Other answers, and few.


def test_without_a_budget_the_same_run_is_far_beyond(recipe):
    made = recipe(*WILD, *FEW, "chase=null", "budget=null")
    summary = training.train(made)
    assert summary.budget is None and not events(made, "beyond_budget")
    assert fresh_kl(made.output_dir) > 3 * LIMIT


def test_a_policy_within_it_is_handed_over_as_it_is(recipe, tmp_path):
    options = ("train.max_steps=4", *FEW, "chase=null")
    learned = training.train(recipe(*options, "budget=null"))
    made = recipe(*options, f"output_dir={tmp_path / 'within'}")
    summary = training.train(made)
    same = summary.hashes["adapter/policy"] == learned.hashes["adapter/policy"]
    assert same and not (tmp_path / "within" / "full").exists()
    assert summary.budget["strength"] == 1 and summary.budget["full"] is None
    assert not events(made, "budget") and len(summary.budget["tried"]) == 1


def test_the_default_is_a_tenth_of_a_nat_for_each_token_of_the_references_answers(recipe):
    made = recipe(*WILD, *FEW, "chase=null")
    told = training.train(made).budget
    opened = open_run(Path(made.output_dir), trust_code=False)
    prompts = list(read_prompts(open_sources([str(Path(made.output_dir) / "memory.jsonl")])))
    length = AnswerKl(opened.policies, opened.encoder, 12).mean_length(BASE, prompts, seed=3)
    assert told["limit"] == pytest.approx(0.1 * length, rel=0.25)


def test_a_killed_run_hands_over_the_same(recipe, tmp_path):
    whole = recipe(*TIGHT, "checkpoint.every=1", f"output_dir={tmp_path / 'whole'}")
    training.train(whole)
    cut = recipe(*TIGHT, "checkpoint.every=1", f"output_dir={tmp_path / 'cut'}")
    for step in (2, 5):
        stop = StopToken()

        def listener(event, step=step, stop=stop):
            if event["event"] == "step" and event["step"] == step:
                stop.stop("test")

        assert training.train(cut, listener=listener, stop=stop) is None
    resumed, told = training.train(cut), training.train(whole)
    assert resumed.budget == told.budget
    assert tiny.same(tiny.adapters(cut.output_dir), tiny.adapters(whole.output_dir))


def test_from_an_adapter_it_is_scaled_on_the_line_to_it(recipe, tmp_path):
    first = recipe("train.max_steps=4", *FEW, "chase=null", f"output_dir={tmp_path / 'first'}")
    start = tmp_path / "first" / "adapters" / "policy"
    training.train(first)
    made = recipe(
        *TIGHT, "chase=null", f"output_dir={tmp_path / 'second'}", lora={"start_from": str(start)}
    )
    summary = training.train(made)
    told = summary.budget
    assert told["strength"] < 1
    begin, full, kept = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (
            start,
            tmp_path / "second" / told["full"],
            tmp_path / "second" / "adapters" / "policy",
        )
    )
    for key, tensor in full.items():
        wanted = torch.lerp(begin[key], tensor, told["strength"])
        assert torch.allclose(kept[key], wanted, atol=1e-7), key


def test_on_top_of_a_frozen_start_it_is_scaled_towards_that(recipe, tmp_path):
    first = recipe("train.max_steps=4", *FEW, "chase=null", f"output_dir={tmp_path / 'first'}")
    start = tmp_path / "first" / "adapters" / "policy"
    training.train(first)
    made = recipe(
        *TIGHT, "chase=null", f"output_dir={tmp_path / 'second'}",
        lora={"start_from": str(start), "freeze_start": True, "rank": 4},
    )  # fmt: skip
    told = training.train(made).budget
    assert told["strength"] < 1
    begin, full, kept = (
        Factors.read(folder)
        for folder in (
            start,
            tmp_path / "second" / told["full"],
            tmp_path / "second" / "adapters" / "policy",
        )
    )
    for layer in begin.layers:
        wanted = torch.lerp(begin.update(layer), full.update(layer), told["strength"])
        assert torch.allclose(kept.update(layer), wanted, atol=1e-6), layer


def test_a_module_beyond_it_may_not_lead(recipe):
    made = recipe(*TIGHT, "chase.slow_ratio=0.001", "budget.every=1", "train.max_steps=8")
    summary = training.train(made)
    assert summary.leader == "slow" and summary.budget["strength"] == 1
    beyond = events(made, "beyond_budget")
    assert beyond and all(set(event["modules"]) == {"fast"} for event in beyond)
    assert all(event["modules"]["fast"] > 1 for event in beyond)
    last_beyond = {event["step"] for event in beyond}
    leaders = {step["step"]: step["leader"] for step in tiny.steps(made.output_dir)}
    assert all(leaders.get(step + 1, "slow") == "slow" for step in last_beyond)


def test_where_all_are_beyond_they_are_scaled_down_while_they_learn(recipe, tmp_path):
    free = recipe(*WILD, *FEW, "chase=null", "budget=null")
    held = recipe(*TIGHT, "chase=null", "budget.every=1", f"output_dir={tmp_path / 'held'}")
    training.train(free)
    summary = training.train(held)
    assert events(held, "beyond_budget")
    full = Path(held.output_dir) / (summary.budget["full"] or "adapters/policy")
    assert size(full) < 0.7 * size(Path(free.output_dir) / "adapters" / "policy")


def test_demonstrations_and_reward_models_have_none(recipe, tmp_path):
    rows = [{"prompt": "Describe the river.", "completion": f"It is {w}."} for w in tiny.GOOD * 4]
    told = tiny.write_rows(tmp_path / "told.jsonl", rows)
    options = ("chase=null", "train.max_steps=2", *FEW, "data.eval=null")
    made = recipe(*options, f"data.train={told}", objective={"name": "sft"})
    assert training.train(made).budget is None
    rewards = recipe(*options, "task=reward", f"output_dir={tmp_path / 'rewards'}")
    assert training.train(rewards).budget is None


@pytest.mark.parametrize("value", [0, -1, "much"])
def test_a_limit_that_is_none_is_refused(recipe, value):
    with pytest.raises(ConfigError, match=r"budget\.reverse_kl"):
        recipe(f"budget.reverse_kl={value}")
