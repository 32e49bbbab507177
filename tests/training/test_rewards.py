"""Reward models: the loss by hand, PEFT's and transformers' own scores, and judging with them."""

import math
import shutil

import families
import pytest
import tiny
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import components
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

import fastslow
from fastslow import training
from fastslow.adapters import BASE
from fastslow.cli.main import app
from fastslow.config import RewardModelJudgeConfig, dump_recipe
from fastslow.errors import ConfigError
from fastslow.judges import JudgeRequest, make_judge

RUN = CliRunner()


@pytest.fixture
def reward(recipe):
    def make(*overrides, **sections):
        return recipe("task=reward", "chase=null", "train.learning_rate=0.01", *overrides,
                      **sections)  # fmt: skip

    return make


@pytest.fixture(scope="module")
def trained(model_folder, train_file, eval_file, tmp_path_factory):
    """A finished run of a reward model, and its summary."""
    folder = tmp_path_factory.mktemp("reward") / "run"
    raw = {
        "model": str(model_folder), "output_dir": str(folder), "task": "reward", "chase": None,
        "data": {"train": str(train_file), "eval": str(eval_file), "max_length": 96},
        "lora": {"rank": 4, "alpha": 8.0}, "train": {"batch_size": 8, "learning_rate": 1e-2,
        "epochs": 3},
    }  # fmt: skip
    return folder, training.train(raw)


def judge(folder, **settings):
    config = {"kind": "reward_model", "folder": str(folder)} | settings
    return make_judge(RewardModelJudgeConfig(**config))


def test_it_is_bradley_and_terrys_model_of_a_head_on_the_last_token(reward):
    run = components(reward())
    modules, policies = run.learner.state.modules, run.learner.policies
    generator = torch.Generator().manual_seed(0)
    modules.head("policy").data.copy_(torch.randn(1, 32, generator=generator))
    items = next(iter(run.reader))
    batch = policies.batch([item.tree for item in items])
    rewards = policies.score("policy", batch)
    for item, pair in zip(items, rewards.view(-1, 2).tolist(), strict=True):
        for response, found in zip(item.tree.responses, pair, strict=True):
            ids = torch.tensor([[*item.tree.prompt, *response]])
            with modules.using("policy"), torch.no_grad():
                hidden = modules.causal_lm.model(input_ids=ids).last_hidden_state[0, -1]
            assert found == pytest.approx((modules.head("policy")[0] @ hidden).item(), abs=1e-4)
    assert not policies.score(BASE, batch).any()
    assert run.learner.objective(
        fastslow.objectives.PairLogps(
            *(torch.tensor([v]) for v in (2.0, 0.5, 0.0, 0.0)), torch.tensor([3]), torch.tensor([4])
        )
    ).loss.item() == pytest.approx(math.log1p(math.exp(-1.5)))


def test_it_learns_and_begins_without_an_opinion(trained):
    _, summary = trained
    assert summary.eval["start"]["accuracy"] == 0.5
    assert summary.eval["start"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert summary.eval["final"]["accuracy"] > 0.9
    assert summary.eval["final"]["reverse_kl"] is None


def test_peft_and_transformers_score_as_the_run_does(trained, model_folder, eval_file):
    folder, summary = trained
    base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
    theirs = PeftModel.from_pretrained(base, folder / "adapters" / "policy").eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    ours = judge(folder)
    for row in tiny.rows(6, seed=9):
        prompt = row["prompt"]
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        scores = []
        for side in ("chosen", "rejected"):
            said = [*turns, {"role": "assistant", "content": row[side]}]
            ids = tokenizer.apply_chat_template(said, return_tensors="pt", return_dict=True)
            # The tiny template writes a line end after the end of the turn, which nobody says.
            with torch.no_grad():
                logits = theirs(input_ids=ids["input_ids"][:, :-1]).logits
            scores.append(logits[0, 0].item())
        text = (
            prompt
            if isinstance(prompt, str)
            else tuple(fastslow.records.Message(**turn) for turn in prompt)
        )
        (found,) = ours.judge([JudgeRequest(text, (row["chosen"], row["rejected"]))])
        assert list(found.scores) == pytest.approx(scores, abs=1e-4)


def test_a_judge_scores_as_the_run_measures(trained, eval_file):
    folder, summary = trained
    rows = tiny.rows(24, seed=2)
    asked = [
        JudgeRequest(row["prompt"], (row["chosen"], row["rejected"]))
        for row in rows if isinstance(row["prompt"], str)
    ]  # fmt: skip
    judgements = judge(folder, batch_size=5).judge(asked)
    right = sum(one.scores[0] > one.scores[1] for one in judgements) / len(asked)
    assert right > 0.85
    alone = [judge(folder).judge([one])[0].scores for one in asked[:3]]
    for one, together in zip(alone, judgements, strict=False):
        assert one == pytest.approx(together.scores, abs=1e-4)


def test_the_end_of_a_turn_may_also_be_the_padding(trained, model_folder, tmp_path):
    folder, _ = trained
    expected = judge(folder).judge(
        [JudgeRequest("Describe the river.", ("It is calm.", "It is grim and dull."))]
    )
    twin = tiny.save_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(twin)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(twin)
    config = (folder / "config.yaml").read_text().replace(str(model_folder), str(twin))
    copy = tmp_path / "run"
    (copy / "adapters").mkdir(parents=True)
    shutil.copytree(folder / "adapters" / "policy", copy / "adapters" / "policy")
    (copy / "config.yaml").write_text(config)
    (copy / "summary.json").write_text((folder / "summary.json").read_text())
    found = judge(copy).judge(
        [JudgeRequest("Describe the river.", ("It is calm.", "It is grim and dull."))]
    )
    assert found[0].scores == pytest.approx(expected[0].scores, abs=1e-4)


def test_any_classifier_of_one_or_two_labels_judges(model_folder, tmp_path):
    for labels in (1, 2, 3):
        folder = tiny.save_model(tmp_path / f"labels-{labels}")
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels)
        model.save_pretrained(folder)
        if labels == 3:
            with pytest.raises(ConfigError, match="has 3 labels"):
                judge(folder)
            continue
        (found,) = judge(folder, template="plain").judge(
            [JudgeRequest("The river is", (" calm", " grim"))]
        )
        ids = AutoTokenizer.from_pretrained(folder)("The river is calm")["input_ids"] + [2]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].tolist()
        expected = logits[0] if labels == 1 else logits[1] - logits[0]
        assert found.scores[0] == pytest.approx(expected, abs=1e-4)


def test_a_score_does_not_depend_on_the_length_of_the_others(tmp_path):
    """Beyond its original context longrope takes other factors, for all that is in the call."""
    config = AutoConfig.for_model("phi3", **families.CONFIGS["phi3"], num_labels=1)
    torch.manual_seed(0)
    classifier = AutoModelForSequenceClassification.from_config(config)
    for parameter in classifier.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(8)
    classifier.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    asked = [
        JudgeRequest("The river is", (" calm", " grim")),
        JudgeRequest("The river is", (" calm" + " and calm" * 30, " grim" + " and grim" * 30)),
    ]
    scores = [judge(tmp_path, template="plain").judge(part) for part in (asked, asked[:1])]
    assert scores[0][0].scores == pytest.approx(scores[1][0].scores, abs=1e-5)


def test_fast_and_slow_race_stop_and_go_on_bit_for_bit(reward, tmp_path):
    def make(folder):
        return reward(f"output_dir={tmp_path / folder}", "chase={}", "checkpoint.every=2")

    def stop(event):
        if event["event"] == "step" and event["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(make("broken"), listener=stop)
    training.train(make("broken"))
    training.train(make("whole"))
    assert tiny.same(tiny.adapters(tmp_path / "whole"), tiny.adapters(tmp_path / "broken"))
    saved = load_file(tmp_path / "whole" / "adapters" / "fast" / "adapter_model.safetensors")
    assert saved["base_model.model.score.weight"].any()


@pytest.mark.parametrize("name", ["hinge", "davidson", "plackett_luce"])
def test_other_objectives_of_log_ratios_learn_rewards(reward, name):
    training.train(reward(f"objective.name={name}", "train.max_steps=2"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("objective.name=simpo",), "objective simpo: cannot train a reward"),
        (("objective.name=wpo",), "objective wpo: cannot train a reward"),
        (("moving_reference={}", "reference=base"), "moving_reference: not supported for reward"),
        (("lora.start_from=elsewhere",), "not supported for reward models, which start"),
    ],
)
def test_what_means_nothing_to_a_reward_model_is_refused(reward, overrides, message):
    with pytest.raises(ConfigError, match=message):
        training.train(reward(*overrides))


def test_the_command_measures_and_refuses(trained, reward, tmp_path, eval_file):
    folder, summary = trained
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(reward("task=policy", "train.max_steps=2")))
    done = RUN.invoke(app, ["train-reward", str(path), f"output_dir={tmp_path / 'by-command'}"])
    assert done.exit_code == 0, done.output
    measured = RUN.invoke(app, ["eval", str(folder), "--json"])
    assert measured.exit_code == 0, measured.output
    assert f'"accuracy": {summary.eval["final"]["accuracy"]}' in measured.output
    for verb in (
        ["sample", str(folder), "Hello."],
        ["export", str(folder), "--to", str(tmp_path / "e"), "--merged"],
    ):
        assert isinstance(RUN.invoke(app, verb).exception, ConfigError)
    assert (
        RUN.invoke(app, ["export", str(folder), "--to", str(tmp_path / "adapter")]).exit_code == 0
    )
    assert judge(tmp_path / "adapter", max_length=96).judge(
        [JudgeRequest("Describe the road.", ("a", "b"))]
    )
    assert RUN.invoke(app, ["report", str(folder)]).exit_code == 0
    assert "Rewards of chosen and rejected" in (folder / "report.html").read_text()
    with pytest.raises(ConfigError, match="holds a reward model, which cannot generate"):
        training.train(
            reward("task=policy", lora={"start_from": str(folder / "adapters" / "policy")})
        )
