"""Runs on every kind of label: weights, confidence, running state, chasing, resume."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from tiers import fast
from typer.testing import CliRunner

from fastslow import training
from fastslow.cli.main import app
from fastslow.dynamics import LeaderSelector
from fastslow.errors import ConfigError, DataError
from fastslow.evaluation import MetricSums
from fastslow.objectives import (
    PairLogps,
    RankedLogps,
    RatedLogps,
    make_objective,
    objective_names,
)
from fastslow.scoring import Tree
from fastslow.streams.formats import read_row
from fastslow.training.loop.losses import (
    add_measured,
    labelled_loss,
    module_losses,
    objective_alone,
)


def rows_of(kind, count=80):
    found = []
    for row in tiny.rows(count):
        prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
        if kind == "pairs":
            found.append(row | {"score_chosen": 3.0, "score_rejected": 1.0})
        elif kind == "rankings":
            answers = [rejected, chosen, rejected + " x"]
            found.append({"prompt": prompt, "completions": answers, "scores": [1, 2, 0]})
        elif kind == "ratings":
            found.append({"prompt": prompt, "completion": chosen, "label": True})
            found.append({"prompt": prompt, "completion": rejected, "label": False})
        else:
            found.append({"prompt": prompt, "completion": chosen})
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    fast(
        [
            ("beta_dpo", "pairs"), ("dpo + 0.2 * sft", "pairs"), ("plackett_luce", "rankings"),
            ("bco", "ratings"),
        ],
        [
            ("odpo", "pairs"), ("wpo", "pairs"), ("mallows", "pairs"), ("alpha_dpo", "pairs"),
            ("beta_dpo", "pairs"), ("dpo + 0.2 * sft", "pairs"), ("sdpo", "rankings"),
            ("plackett_luce", "rankings"), ("exo_ranked", "rankings"), ("kto", "ratings"),
            ("bco", "ratings"), ("sft", "demonstrations"),
        ],
    ),
)  # fmt: skip
def test_each_kind_is_learned_with_chasing_and_goes_on_after_a_stop(recipe, tmp_path, name, kind):
    path = str(tiny.write_rows(tmp_path / "rows.jsonl", rows_of(kind)))
    held = tiny.write_rows(tmp_path / "held.jsonl", rows_of(kind))
    common = (
        f"objective.name={name}", f"data.train={path}", f"data.eval={held}", "eval.num_prompts=0",
        "eval.max_pairs=24", "train.max_steps=6", "checkpoint.every=3", "chase.alpha=0.05",
    )  # fmt: skip
    whole = recipe(f"output_dir={tmp_path / 'whole'}", *common)
    summary = training.train(whole)
    start, final = summary.eval["start"], summary.eval["final"]
    assert final["margin"] > start["margin"]
    # WPO's loss grows with the policy's own weights, and alpha-DPO's with the margin it asks for.
    assert name in ("wpo", "alpha_dpo") or final["loss"] < start["loss"]
    stopped = tmp_path / "stopped"
    shutil.copytree(whole.output_dir, stopped)
    (stopped / "config.yaml").unlink()
    made = recipe(f"output_dir={stopped}", *common)
    (stopped / "config.yaml").write_text(
        (Path(whole.output_dir) / "config.yaml").read_text().replace(whole.output_dir, str(stopped))
    )
    (stopped / "summary.json").unlink()
    shutil.rmtree(stopped / "checkpoints" / "step-00000006")
    again = training.train(made)
    assert again.eval["final"] == final
    for module in ("fast", "slow"):
        weights = [
            (folder / "adapters" / module / "adapter_model.safetensors").read_bytes()
            for folder in (Path(whole.output_dir), stopped)
        ]
        assert weights[0] == weights[1]


def test_running_state_is_in_the_checkpoint_and_is_each_modules_own(recipe, tmp_path):
    made = recipe("objective.name=alpha_dpo", "train.max_steps=4", "checkpoint.every=4")
    training.train(made)
    state = json.loads(
        (Path(made.output_dir) / "checkpoints" / "step-00000004" / "state.json").read_text()
    )
    running = state["running"] if "running" in state else state["facts"]["running"]
    assert running.keys() == {"fast", "slow"} and running["fast"] != running["slow"]
    # Four steps with decay 0.9: 1 - 0.9^4.
    assert running["fast"]["weight"] == pytest.approx(1 - 0.9**4)


def pair(margin):
    zero, length = torch.zeros(1), torch.ones(1)
    return PairLogps(torch.tensor([margin]), zero, zero, zero, length, length)


def test_weight_and_confidence_in_the_loss():
    objective = make_objective("dpo", beta=0.5)
    right, wrong = (objective(pair(sign * 3.0)).loss.item() for sign in (1, -1))
    settings = {"weight": torch.tensor([2.0]), "confidence": torch.tensor([0.75])}
    found = labelled_loss(objective, pair(3.0), **settings)
    assert found.item() == pytest.approx(2 * (0.75 * right + 0.25 * wrong), rel=1e-6)
    # It is conservative DPO with that much smoothing.
    smoothed = make_objective("dpo", beta=0.5, label_smoothing=0.25)(pair(3.0)).loss
    assert found.item() == pytest.approx(2 * smoothed.item(), rel=1e-6)
    plain = {"weight": torch.ones(1), "confidence": None}
    assert torch.equal(labelled_loss(objective, pair(3.0), **plain), objective(pair(3.0)).loss)


def test_one_unsure_label_does_not_change_the_batch_that_beta_dpo_sees():
    objective = make_objective("beta_dpo", beta=0.1, gain=0.6, filter=0.0)
    state = {"mean": 1.0, "deviation": 1.0, "weight": 1.0}
    zero, length = torch.zeros(2), torch.ones(2)
    logps = PairLogps(torch.tensor([2.0, 4.0]), zero, zero, zero, length, length, {}, state)
    settings = {"weight": torch.ones(2), "confidence": torch.tensor([0.9, 1.0])}
    first, second = labelled_loss(objective, logps, **settings).tolist()
    # The mean of Delta is 3, 2 above the running one: beta is 0.1 (1 + 0.6 * 2) for either label.
    right, wrong = (math.log1p(math.exp(-sign * 0.22 * 2.0)) for sign in (1, -1))
    assert first == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-6)
    assert second == pytest.approx(math.log1p(math.exp(-0.22 * 4.0)), rel=1e-6)


@pytest.mark.parametrize("kind", ["ratings", "rankings"])
@pytest.mark.parametrize("size", [2, 1])
def test_what_is_reported_of_the_sides_does_not_depend_on_micro_batches(kind, size):
    # All of the first two ratings are liked, and the first two lists have two answers.
    objective = make_objective("bco" if kind == "ratings" else "sdpo")
    values = torch.tensor([[-1.0, -4.0, -9.0], [-2.0, -5.0, -8.0], [-3.0, -6.0, -7.0]])
    present = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 1, 1]]).bool()
    liked, zero, one = torch.tensor([True, True, False]), values * 0, values**0

    def of(rows):
        if kind == "ratings":
            return RatedLogps(*(x[rows, 0] for x in (values, zero, one)), liked[rows])
        ranks = torch.arange(3).expand(3, 3)
        return RankedLogps(*(x[rows] for x in (values, zero, one, ranks, present)))

    def reported(size):
        totals = MetricSums()
        for rows in torch.arange(3).split(size):
            add_measured(totals, objective_alone(of(rows), objective))
        return totals.means()

    whole = reported(3)
    expected = (-1.5, -3.0) if kind == "ratings" else (-2.0, -22 / 4)
    assert (whole["chosen_logp"], whole["rejected_logp"]) == pytest.approx(expected)
    assert reported(size) == pytest.approx(whole)


def chase_slope(objective, logps, confidence=None):
    """Of the chaser's margin, in a race of two modules at the same place."""
    chosen = logps.policy_chosen.clone().requires_grad_()
    race = {"fast": logps, "slow": replace(logps, policy_chosen=chosen)}
    slopes = []
    for alpha in (1.0, 0.0):
        total = module_losses(
            race, objective, LeaderSelector(("fast", "slow")), alpha=alpha,
            weight=torch.ones(1), confidence=confidence,
        )["slow"].total.sum()  # fmt: skip
        slopes.append(torch.autograd.grad(total, chosen)[0].item())
    return slopes[0] - slopes[1]


@pytest.mark.parametrize("confidence", [1.0, 0.75, 0.5])
def test_the_chase_counts_as_far_as_a_label_is_surer_than_not(confidence):
    objective = make_objective("dpo", beta=0.5)
    found = chase_slope(objective, pair(3.0), torch.tensor([confidence]))
    assert found == pytest.approx(-0.25 * (2 * confidence - 1), abs=1e-6)


def test_nobody_chases_over_a_tie():
    objective = make_objective("davidson", beta=0.5)
    for tie, wanted in ((0.0, -0.25), (1.0, 0.0)):
        logps = replace(pair(3.0), extras={"tie": torch.tensor([tie])})
        assert chase_slope(objective, logps) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("length", [40, 300])
def test_the_chase_takes_means_where_the_objective_does(length):
    tokens = torch.tensor([float(length)])
    logps = replace(pair(3.0), chosen_length=tokens, rejected_length=tokens)
    simpo = make_objective("simpo", beta=2.0)
    assert chase_slope(simpo, logps) == pytest.approx(-1.0 / length, rel=1e-5)


def test_a_weight_of_nothing_teaches_nothing_and_of_two_counts_twice(recipe, tmp_path):
    rows = tiny.rows(8)
    options = ("train.max_steps=1", "train.optimizer=sgd", "train.learning_rate=0.5",
               "chase=null", "eval.num_prompts=0", "train.max_grad_norm=null")  # fmt: skip
    files = {
        "alone": rows[4:],
        "once": [row | {"weight": int(i >= 4)} for i, row in enumerate(rows)],
        "twice": [row | {"weight": 2 * (i >= 4)} for i, row in enumerate(rows)],
    }
    norms, counts = {}, {}
    for name, weighted in files.items():
        path = tiny.write_rows(tmp_path / f"{name}.jsonl", weighted)
        made = recipe(f"data.train={path}", f"output_dir={tmp_path / name}", *options)
        counts[name] = training.train(made).data["skipped"]
        lines = (tmp_path / name / "events.jsonl").read_text().splitlines()
        step = next(e for e in map(json.loads, lines) if e["event"] == "step")
        norms[name] = step["modules"]["policy"]["grad_norm"]
    assert counts == {"alone": 0, "once": 4, "twice": 4}
    assert norms["once"] == norms["alone"]
    assert norms["twice"] == pytest.approx(2 * norms["once"], rel=1e-5)


def test_rows_without_what_the_objective_needs_are_dropped_by_name(recipe, tmp_path):
    path = tiny.write_rows(tmp_path / "bare.jsonl", tiny.rows(60))
    with pytest.raises(DataError, match="needs score_chosen and score_rejected") as error:
        training.train(recipe("objective.name=odpo", f"data.train={path}", "data.eval=null"))
    assert "Add the columns" in str(error.value) and "max_length" not in str(error.value)


def test_ties_that_are_learned_are_counted_and_odd_columns_are_asked_about(recipe, tmp_path):
    rows = [row | {"wieght": 2, "origin": "x"} for row in tiny.rows(16)]
    rows = [row | ({"verdict": "tie"} if i % 4 == 0 else {}) for i, row in enumerate(rows)]
    path = tiny.write_rows(tmp_path / "rows.jsonl", rows)
    made = recipe("objective.name=davidson", f"data.train={path}", "data.eval=null")
    seen = []
    summary = training.train(made, listener=seen.append)
    assert (summary.data["learned_ties"], summary.data["ties"]) == (4, 0)
    told = [event["message"] for event in seen if event["event"] == "warning"]
    assert told == ["columns that are not used: 'wieght', 'origin'"]


def test_a_label_that_is_probably_wrong_is_the_other_label():
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 1}
    pair = read_row(row | {"confidence": 0.2}, source="")
    assert (pair.chosen, pair.confidence, pair.score_rejected) == ("b", 0.8, 1.0)


def test_nothing_but_ties_names_who_learns_from_them(recipe, tmp_path):
    ties = [row | {"verdict": "tie"} for row in tiny.rows(20)]
    path = tiny.write_rows(tmp_path / "ties.jsonl", ties)
    made = recipe(f"data.train={path}", "data.eval=null", "train.schedule=constant")
    with pytest.raises(DataError, match="all 20 examples are ties.*davidson and rao_kupper can"):
        training.train(made)


@pytest.mark.parametrize("name", ["alpha_dpo", "beta_dpo", "bco"])
def test_a_finished_run_is_measured_with_what_its_objective_remembers(recipe, tmp_path, name):
    kind = make_objective(name).takes
    path, held = (
        tiny.write_rows(tmp_path / f"{part}.jsonl", rows_of(kind, 24)) for part in ("rows", "held")
    )
    made = recipe(
        f"objective.name={name}", f"data.train={path}", f"data.eval={held}", "eval.num_prompts=0",
        "train.max_steps=4",
    )  # fmt: skip
    final = training.train(made).eval["final"]
    shown = CliRunner().invoke(app, ["eval", made.output_dir, "--json"])
    assert json.loads(shown.stdout)["loss"] == final["loss"]
    # And it does matter.
    bare = CliRunner().invoke(app, ["eval", made.output_dir, "--json", "--module", "base"])
    assert json.loads(bare.stdout)["loss"] != final["loss"]


@pytest.mark.parametrize(
    "name",
    fast(
        ["simpo", "orpo", "anchored_zero", "kto", "exo_ranked", "sft"],
        [name for name in objective_names() if not make_objective(name).on_policy],
    ),
)
def test_every_objective_moves_both_modules_of_a_race(recipe, tmp_path, name):
    kind = make_objective(name).takes
    path = tiny.write_rows(tmp_path / "rows.jsonl", rows_of(kind, 16))
    made = recipe(
        f"objective.name={name}", f"data.train={path}", "data.eval=null", "train.max_steps=2",
        "chase.alpha=0.05", "chase.slow_ratio=0.5",
    )  # fmt: skip
    steps = []
    training.train(made, listener=lambda e: steps.append(e) if e["event"] == "step" else None)
    assert len(steps) == 2
    fast, slow = (steps[1]["modules"][module] for module in ("fast", "slow"))
    assert fast["grad_norm"] > 0 and slow["grad_norm"] > 0
    # After one step at two speeds they are two policies, both away from the reference.
    assert fast["margin"] != slow["margin"] and fast["margin"] != 0 and slow["margin"] != 0


def test_a_mismatched_response_is_to_another_prompt():
    from fastslow.training.loop.logps import mismatched_trees

    def tree(prompt, response):
        return Tree((prompt,), ((response,),))

    # A pair's two thumbs stand side by side; neither is the other's mismatch.
    trees = [tree(1, 11), tree(1, 12), tree(2, 21), tree(2, 22), tree(3, 31)]
    found = mismatched_trees(trees)
    assert [t.prompt for t in found] == [t.prompt for t in trees]
    assert [t.responses[0][0] for t in found] == [21, 21, 31, 31, 11]
    assert mismatched_trees([tree(1, 11), tree(1, 12)])[0].responses == ((11,),)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.micro_batch_size=4", "train.micro_batch_size: got 4"),
        ("train.batch_size=1", "train.batch_size: got 1"),
    ],
)
def test_an_objective_that_compares_examples_needs_them_together(recipe, override, message):
    with pytest.raises(ConfigError, match=message):
        training.train(recipe("objective.name=beta_dpo", override))
