"""Rounds of answering, judging and learning: what each is, momentum, and going on after a stop."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiers import fast
from typer.testing import CliRunner

import fastslow
from fastslow import training
from fastslow.adapters import Factors
from fastslow.cli.main import app
from fastslow.errors import ConfigError, DataError, JudgeError, StateError
from fastslow.reports.runs import read_runs
from fastslow.training.data.dataset import prompt_stream
from fastslow.training.policies import loading
from fastslow.training.policies.policies import Policies
from fastslow.training.rounds import round_prompts, round_recipe

RULE = """
def score(prompt, answer):
    return answer.count("e") - 0.1 * len(answer)
"""
SHORT = (
    "chase=null", "train.max_steps=3", "eval.num_prompts=2", "data.train=[]", "lora.rank=2",
    "train.batch_size=4",
)  # fmt: skip


@pytest.fixture
def rounds(recipe, train_file, tmp_path):
    """Makes a recipe of two rounds; keyword arguments are of its `rounds`."""
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)

    def make(*overrides, **section):
        settings = {
            "count": 2, "prompts": str(train_file), "prompts_per_round": 6, "num_generations": 4,
            "max_new_tokens": 12, "temperature": 1.5,
        } | section  # fmt: skip
        judge = {"kind": "rule", "file": str(rule)}
        return recipe(*SHORT, *overrides, rounds=settings, judge=judge)

    return make


def rows(folder):
    files = sorted(Path(folder).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def adapter(folder):
    return load_file(Path(folder) / "adapters" / "policy" / "adapter_model.safetensors")


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


def test_each_round_learns_from_the_judged_answers_of_the_policy_before(rounds):
    made = rounds()
    seen = []
    summary = training.train(made, listener=seen.append)
    folder = Path(made.output_dir)
    assert not [event["message"] for event in seen if "not read" in event.get("message", "")]
    told = [event for event in seen if event["event"] in ("round", "answers")]
    assert [e["event"] for e in told] == ["round", "answers", "round", "answers"]
    assert told[1]["prompts"] == 6 and told[1]["rows"] == len(rows(folder / "answers" / "01"))
    first, second = rows(folder / "answers" / "01"), rows(folder / "answers" / "02")
    for row in first + second:
        scores = dict(zip(row["sampled"]["answers"], row["sampled"]["scores"], strict=True))
        assert row["score_chosen"] == max(scores.values()) == scores[row["chosen"]]
        assert row["score_rejected"] == min(scores.values()) == scores[row["rejected"]]
        assert 0 < row["win_rate_rejected"] < 0.5 < row["win_rate_chosen"] < 1
        assert scores[row["chosen"]] == pytest.approx(
            row["chosen"].count("e") - 0.1 * len(row["chosen"])
        )
    assert {row["sampled"]["policy"] for row in first} == {"base"}
    start = str(folder / "rounds" / "01" / "adapters" / "policy")
    assert {row["sampled"]["policy"] for row in second} == {start}
    prompts = [{json.dumps(row["prompt"]) for row in part} for part in (first, second)]
    assert not prompts[0] & prompts[1]
    # The second round starts at the first one's policy, which is its reference.
    assert summary.reference == "previous"
    assert summary.eval["start"]["margin"] == pytest.approx(0.0, abs=1e-4)
    assert [run.label for run in read_runs([folder])] == ["01", "02"]


def test_answers_are_scored_with_the_policys_own_log_probs(rounds, monkeypatch):
    sampled, plain = [], Policies.generate

    def noted(self, name, prompts, **settings):
        answers = plain(self, name, prompts, **settings)
        if settings.get("temperature") == 1.5:
            sampled.extend(zip(prompts, answers, strict=True))
        return answers

    monkeypatch.setattr(Policies, "generate", noted)
    made = rounds()
    training.train(made)
    run = fastslow.load_recipe(Path(made.output_dir) / "rounds" / "01" / "config.yaml")
    assert run.reference == "base" and run.lora.start_from is None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(made.model)
    tokenizer = AutoTokenizer.from_pretrained(made.model)
    first, compared = sampled[:6], 0
    for row in rows(Path(made.output_dir) / "answers" / "01"):
        turns, told = row["prompt"], row["sampled"]
        turns = [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        # Other tokens may make the same text, so those that were sampled are compared.
        spoken = next(
            said
            for said in (tokens_by_text(tokenizer, group) for ids, group in first
                         if list(ids) == prompt)
            if set(told["answers"]) <= said.keys()
        )  # fmt: skip
        for answer, logp, truncated in zip(
            told["answers"], told["logps"], told["truncated"], strict=True
        ):
            said = spoken[answer]
            logits = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1] / 1.5
            own = logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).sum().item()
            assert own == pytest.approx(logp, abs=1e-3)
            assert truncated == (said[-1] != tokenizer.eos_token_id)
            compared += 1
    assert compared > 12


def tokens_by_text(tokenizer, answers):
    """The tokens of each text, of equal ones the first."""
    return {
        tokenizer.decode(answer.tokens, skip_special_tokens=True): answer.tokens
        for answer in reversed(answers)
    }


def test_by_hand_two_runs_are_the_same(rounds, recipe, tmp_path):
    made = rounds()
    training.train(made)
    folder = Path(made.output_dir)
    by_hand = recipe(
        *SHORT, f"data.train={folder / 'answers' / '01'}", f"output_dir={tmp_path / 'one'}"
    )
    training.train(by_hand)
    assert same(adapter(tmp_path / "one"), adapter(folder / "rounds" / "01"))
    start = tmp_path / "one" / "adapters" / "policy"
    by_hand = recipe(
        *SHORT, f"data.train={folder / 'answers' / '02'}", f"output_dir={tmp_path / 'two'}",
        f"lora.start_from={start}", "lora.freeze_start=true",
    )  # fmt: skip
    training.train(by_hand)
    assert same(adapter(tmp_path / "two"), adapter(folder))


def dense(folder):
    factors = Factors.read(Path(folder))
    return {layer: factors.update(layer).double() for layer in factors.layers}


def test_beta_may_change_from_round_to_round(rounds, tmp_path):
    rising = rounds(beta=[0.01, 0.5])
    flat = rounds(f"output_dir={tmp_path / 'flat'}", "objective.beta=0.01")
    training.train(rising)
    training.train(flat)
    first = [adapter(round_recipe(made, Path(made.output_dir), 0).output_dir)
             for made in (rising, flat)]  # fmt: skip
    assert same(*first) and not same(adapter(rising.output_dir), adapter(flat.output_dir))


def test_momentum_carries_the_policy_that_answers_and_not_the_one_returned(rounds):
    made = rounds(count=3, momentum=0.5)
    training.train(made)
    folder = Path(made.output_dir)
    learned = [dense(folder / "rounds" / f"{i:02d}" / "adapters" / "policy") for i in (1, 2)]
    carried = [dense(folder / "policies" / f"{i:02d}") for i in (1, 2)]
    for layer in learned[0]:
        # Before the first round there was nothing: 1.5 of what was learned.
        assert torch.allclose(carried[0][layer], 1.5 * learned[0][layer], atol=1e-7)
        # learned_2 + 0.5 (learned_2 - learned_1), not - policy_1.
        wanted = 1.5 * learned[1][layer] - 0.5 * learned[0][layer]
        assert torch.allclose(carried[1][layer], wanted, atol=1e-6)
        other = 1.5 * learned[1][layer] - 0.5 * carried[0][layer]
        assert not torch.allclose(carried[1][layer], other, atol=1e-6)
    paths = {row["sampled"]["policy"] for row in rows(folder / "answers" / "03")}
    assert paths == {str(folder / "policies" / "02")}
    start = fastslow.load_recipe(folder / "rounds" / "02" / "config.yaml").lora.start_from
    assert start == str(folder / "policies" / "01")


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_every_round_learns_a_fresh_module_of_the_recipes_rank(rounds, momentum):
    made = rounds("lora.dropout=0.1", count=3, momentum=momentum)
    training.train(made)
    folder = Path(made.output_dir)
    for index in range(3):
        learned = Factors.read(folder / "rounds" / f"{index + 1:02d}" / "adapters" / "policy")
        assert learned.rank == 2 * (index + 1)
        lora = fastslow.load_recipe(folder / "rounds" / f"{index + 1:02d}" / "config.yaml").lora
        assert (lora.rank, lora.alpha, lora.dropout) == (2, made.lora.alpha, 0.1)


def test_momentum_does_not_leave_the_budget(rounds):
    made = rounds("budget.reverse_kl=1e-3", momentum=20.0)
    seen = []
    training.train(made, listener=seen.append)
    folder = Path(made.output_dir)
    (told,) = [e for e in seen if e["event"] == "budget" and "answers next" in e["module"]]
    assert 0 < told["strength"] < 1 and told["reverse_kl"] <= told["limit"] == 1e-3
    learned = dense(folder / "rounds" / "01" / "adapters" / "policy")
    for layer, update in dense(folder / "policies" / "01").items():
        assert torch.allclose(update, 21 * told["strength"] * learned[layer], atol=1e-6)


def test_hardly_any_momentum_is_none(rounds, tmp_path):
    moved = []
    for momentum in (0.0, 1e-9):
        made = rounds(f"output_dir={tmp_path / str(momentum)}", momentum=momentum)
        training.train(made)
        moved.append(dense(Path(made.output_dir) / "adapters" / "policy"))
    for layer in moved[0]:
        assert torch.allclose(moved[0][layer], moved[1][layer], atol=1e-6)
    assert max(update.abs().max() for update in moved[0].values()) > 1e-3


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_policy_that_answers_can_be_compressed(rounds, momentum):
    made = rounds(count=3, momentum=momentum, recompress=2)
    training.train(made)
    assert Factors.read(Path(made.output_dir) / "policies" / "02").rank == 2


@pytest.mark.parametrize(
    ("objective", "pick", "columns"),
    [
        ("dpo", "best_worst", ("chosen", "rejected")),
        ("sppo", "best_worst", ("chosen", "rejected")),
        ("dpo", "all", ("completions", "scores")),
        ("sdpo", "best_worst", ("completions", "scores")),
        ("exo_ranked", "all", ("completions", "scores")),
        ("kto", "best_worst", ("chosen", "rejected")),
        ("sft", "best_worst", ("completions", "scores")),
    ],
)
def test_every_kind_of_objective_learns_from_answers(rounds, objective, pick, columns):
    made = rounds(f"objective.name={objective}", "data.eval=null", pick=pick, count=1)
    summary = training.train(made)
    assert summary.pairs_seen > 0
    row = rows(Path(made.output_dir) / "answers" / "01")[0]
    assert all(column in row for column in columns)


def test_probabilities_for_sppo_come_from_the_judge(rounds):
    made = rounds(
        "objective.name=sppo", "objective.targets=probabilities", "data.eval=null", count=1
    )
    assert training.train(made).data["missing_fields"] == 0


def test_stored_pairs_are_mixed_in(rounds, train_file):
    made = rounds(f"data.train={train_file}", offline_fraction=0.5, count=1, prompts=None)
    summary = training.train(made)
    config = (Path(made.output_dir) / "config.yaml").read_text()
    assert "offline_fraction: 0.5" in config and summary.pairs_seen > 6


@pytest.mark.parametrize("at", fast(["step"], ["answers", "step", "round"]))
def test_a_stopped_run_goes_on_where_it_was(rounds, at):
    whole = rounds("output_dir=whole-run", momentum=0.3)
    broken = rounds("output_dir=broken-run", momentum=0.3)
    seen = []

    def stop(event):
        seen.append(event)
        if event["event"] == at and len([e for e in seen if e["event"] == at]) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(broken, listener=stop)
    training.train(broken)
    training.train(whole)
    assert same(adapter("whole-run"), adapter("broken-run"))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_judge_that_gives_up_loses_nothing_that_was_judged(rounds, tmp_path, monkeypatch):
    monkeypatch.setattr("fastslow.training.on_policy.answer_files.AT_ONCE", 2)
    made, left = rounds(), tmp_path / "left"
    left.write_text("12")
    (tmp_path / "rule.py").write_text(tiny.FAILING_RULE.format(left=str(left)))
    with pytest.raises(JudgeError, match="failed on an answer: OSError: gone"):
        training.train(made)
    done = sorted((Path(made.output_dir) / "answers" / "01").glob("*.jsonl"))
    assert len(done) == 1 and len(rows(done[0].parent)) == 2
    before = done[0].read_bytes()
    left.write_text("1000")
    training.train(made)
    assert done[0].read_bytes() == before


def test_the_commands_know_a_run_in_rounds_wherever_it_is_moved(rounds, tmp_path):
    made = rounds(momentum=0.5)
    summary = training.train(made)
    moved = tmp_path / "moved"
    shutil.move(made.output_dir, moved)
    run = CliRunner().invoke
    shown = run(app, ["eval", str(moved), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["margin"] == summary.eval["final"]["margin"]
    assert run(app, ["export", str(moved), "--to", str(tmp_path / "out")]).exit_code == 0
    assert run(app, ["sample", str(moved), "Describe the sea."]).exit_code == 0


def test_a_finished_one_trains_no_more_and_another_recipe_is_refused(rounds):
    first = training.train(rounds())
    seen = []
    assert training.train(rounds(), listener=seen.append) == first
    assert [event["event"] for event in seen] == ["already_complete"]
    with pytest.raises(StateError, match=r"differs in rounds.momentum"):
        training.train(rounds(momentum=0.1))


def test_answers_that_teach_nothing_stop_the_run(rounds):
    with pytest.raises(DataError, match="none of 6 prompts got two different completions"):
        training.train(rounds(temperature=0.001))


@pytest.mark.parametrize(
    ("section", "overrides", "message"),
    [
        ({}, ("judge=null",), "judge: is missing; rounds needs one to compare"),
        ({"num_generations": 1}, (), "rounds.num_generations: got 1"),
        ({"max_new_tokens": 96}, (), "rounds.max_new_tokens: got 96; must be below"),
        ({"prompts": None}, (), "prompts: are missing; give rows"),
        ({"prompts": "-"}, (), "rounds: prompts are read more than once"),
        (
            {"offline_fraction": 0.5},
            (),
            "rounds.offline_fraction: takes pairs of data.train, which is missing",
        ),
        ({"beta": [0.1]}, (), "rounds.beta: got 1 values for 2 rounds"),
        ({}, ("stages=[sft, preferences]",), "rounds: cannot be combined with continual or stages"),
    ],
)
def test_what_cannot_be_is_refused(rounds, section, overrides, message):
    with pytest.raises(ConfigError, match=message):
        training.train(rounds(*overrides, **section))


def test_validate_reads_what_there_is(rounds, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(fastslow.config.dump_recipe(rounds()))
    shown = CliRunner().invoke(app, ["validate", str(path), "--json"])
    assert shown.exit_code == 0, shown.output
    assert list(json.loads(shown.stdout)) == ["eval", "warnings"]
    (tmp_path / "rule.py").write_text("1 / 0")
    shown = CliRunner().invoke(app, ["validate", str(path)])
    assert isinstance(shown.exception, ConfigError) and "judge.file" in str(shown.exception)


def test_prompts_come_again_where_there_are_few(rounds, tmp_path):
    few = tiny.write_rows(tmp_path / "few.jsonl", tiny.rows(3))
    made = rounds(prompts=str(few), prompts_per_round=5)
    prompts = prompt_stream(made, made.rounds, epochs=1)
    parts = round_prompts(made, prompts)
    assert [len(part) for part in parts] == [5, 5]
    distinct = {row.prompt for part in parts for row in part}
    assert len(distinct) <= 3 and {row.prompt for row in parts[0]} == distinct


def test_a_prompt_with_other_tools_is_another_prompt(rounds, tmp_path):
    tools = [[{"type": "function", "function": {"name": name}}] for name in ("a", "b", "a")]
    asked = [{"prompt": "Say.", "tools": own} for own in tools]
    made = rounds(prompts=str(tiny.write_rows(tmp_path / "asked.jsonl", asked)), count=2)
    parts = round_prompts(made, prompt_stream(made, made.rounds, epochs=1))
    named = [row.template_kwargs["tools"][0]["function"]["name"] for part in parts for row in part]
    assert set(named) == {"a", "b"} and named.count("a") == named.count("b")


def test_the_rows_of_answers_keep_what_the_rows_of_their_prompts_said(rounds, tmp_path):
    asked = [{"prompt": f"Say {i}.", "id": i, "asked": {"by": "me"}} for i in range(12)]
    made = rounds(prompts=str(tiny.write_rows(tmp_path / "asked.jsonl", asked)), count=1)
    training.train(made)
    written = rows(Path(made.output_dir) / "answers" / "01")
    assert written
    for row in written:
        assert row["prompt"] == f"Say {row['id']}." and row["asked"] == {"by": "me"}


def test_all_rounds_share_one_base(rounds, monkeypatch):
    loaded, plain = [], loading.load_base

    def counted(*args, **settings):
        loaded.append(args)
        return plain(*args, **settings)

    monkeypatch.setattr(loading, "load_base", counted)
    training.train(rounds())
    assert len(loaded) == 1
