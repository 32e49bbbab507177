"""What each kind of method changes of the recipe that all share, and which setting it chooses."""

import gzip
import shutil

import pytest

from fastslow.bench.online import ROUNDS, _run, _sections
from fastslow.bench.online_methods import METHODS
from fastslow.bench.online_results import best_setting, row
from fastslow.bench.scenario import Scenario
from fastslow.config import DomainConfig, load_recipe
from fastslow.errors import StateError

WORLD = {"kind": "world", "file": "world.json"}
RULE = {"kind": "rule", "file": "rule.py"}


def scenario(**settings):
    shared = {
        "model": "m", "data": {"max_length": 96}, "train": {"batch_size": 16, "warmup_steps": 4},
        "eval": {"num_prompts": 4, "max_new_tokens": 24, "judge": WORLD}, **settings,
    }  # fmt: skip
    domain = DomainConfig(name="d", train="train.jsonl", eval="test.jsonl")
    return Scenario("s", (domain,), shared)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("files", [False, True])
def test_every_setting_of_every_method_is_a_recipe(name, files):
    made = scenario(judge=RULE, online={"num_generations": 4}) if files else scenario()
    method = METHODS[name]
    for setting in method.grid:
        raw = {**made.settings, "chase": None, **_sections(made, method.data, 96, learned=96)}
        recipe = load_recipe(raw, [f"{key}={value}" for key, value in setting.items()])
        learns = (recipe.rounds is not None, recipe.online is not None)
        assert learns == (method.data == "rounds", method.data == "fresh")
        assert (recipe.judge is None) == (method.data in ("full", "narrow"))
        if recipe.judge is not None:
            assert recipe.judge.kind == ("rule" if files else "world")
        assert recipe.eval.judge.kind == "world"


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_every_kind_is_run_and_measured(
    name, model_folder, train_file, eval_file, tmp_path
):
    rule = tmp_path / "rule.py"
    rule.write_text("def score(prompt, answer):\n    return float(len(answer))\n")
    judge = {"kind": "rule", "file": str(rule)}
    settings = {
        "model": str(model_folder), "data": {"max_length": 96}, "judge": judge,
        "train": {"batch_size": 4, "max_steps": 2},
        "eval": {"num_prompts": 2, "num_generations": 2, "max_new_tokens": 4, "judge": judge},
    }  # fmt: skip
    full = tmp_path / "full.jsonl"
    full.write_bytes(gzip.decompress(train_file.read_bytes()))
    shutil.copy(full, tmp_path / "narrow.jsonl")
    domain = DomainConfig(name="d", train=str(full), eval=str(eval_file))
    made = Scenario("s", (domain,), settings, strengths=(1.0,))
    found = _run(made, name, METHODS[name].grid[-1], tmp_path / "run", 12)
    assert len(found["points"]) == 2
    rounds = METHODS[name].data == "rounds"
    assert len(found["curve"]) == 1 + ROUNDS if rounds else len(found["curve"]) >= 2
    (base,), (end,) = (point["domains"] for point in found["points"])
    assert base["reverse_kl"] == 0 != end["reverse_kl"]
    if rounds:
        assert found["curve"][-1]["reverse_kl"] == pytest.approx(end["reverse_kl"])
    again = _run(made, name, METHODS[name].grid[-1], tmp_path / "run", 12)
    assert len(again["curve"]) == len(found["curve"])  # Stopped before its record was written.


def test_final_policies_are_measured_without_what_learning_asks_for():
    measured = scenario(judge=RULE, online={"num_generations": 4}).measured()
    assert measured.online is measured.judge is None
    assert measured.eval.judge.kind == "world"


def record(name, seed, *, ends=(0.0,), gains=((1.0, 0.0),), setting=None):
    """Rewards after each round, and (KL, reward) of the finished policy at rising strengths."""
    points = [
        {"domains": [{"reward": reward, "reverse_kl": kl}]} for kl, reward in ((0.0, 0.0), *gains)
    ]
    curve = [{"reward": reward, "reverse_kl": 2.0} for reward in (0.0, *ends)]
    return {
        "scenario": f"world-{seed}", "method": name, "setting": setting or {},
        "points": points, "curve": curve,
    }  # fmt: skip


def test_the_best_setting_gains_most_in_the_mean_over_the_budgets():
    near, far = ((1.0, 1.0), (4.0, 1.0)), ((1.0, 0.5), (4.0, 2.9))
    tried = [
        record("dpo", 1, gains=near, setting={"r": 1}),
        record("dpo", 1, gains=far, setting={"r": 2}),
        record("hypo", 1, gains=((1.0, 9.0),), setting={"w": 1}),
    ]
    assert best_setting("dpo", tried) == {"r": 2}
    assert best_setting("dpo", tried[:1]) == {"r": 1}


def test_a_setting_that_came_to_nothing_somewhere_is_not_chosen_and_worlds_of_it_are_counted():
    failed = {**record("dpo", 2, setting={"r": 1}), "failed": "all examples are ties"}
    good, better = (
        record("dpo", 1, gains=((1.0, g),), setting={"r": r}) for g, r in ((1, 2), (2, 1))
    )
    assert best_setting("dpo", [better, failed, good]) == {"r": 2}
    assert best_setting("dpo", [better, failed]) == {"r": 1}
    found = row("dpo", [better, failed])
    assert found["failed"] == 1 and found["gain@1"]["mean"] == 2.0
    hypo = [record("hypo", seed, gains=((1.0, 1.0),)) for seed in (1, 2)]
    assert row("hypo", [better, failed, *hypo])["difference@1"]["mean"] == -1.0
    with pytest.raises(StateError, match="dpo failed everywhere: all examples"):
        row("dpo", [failed])


def test_methods_are_compared_at_equal_kl_seed_by_seed():
    records = [
        record("dpo", 1, gains=((4.0, 4.0),)),
        record("dpo", 2, gains=((4.0, 2.0),)),
        record("hypo", 2, gains=((1.0, 1.0), (2.0, 1.5))),
        record("hypo", 1, gains=((1.0, 1.5), (2.0, 2.0))),
    ]
    found = row("hypo", records)
    assert found["gain@1"]["mean"] == 1.25 and found["gain@4"]["mean"] == 1.75
    assert found["difference@1"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert found["difference@2"]["mean"] == 0.25 and found["against"] == "dpo"
    assert "difference@1" not in row("dpo", records)


def test_rounds_are_compared_at_the_round_and_with_one_more():
    records = [record("iterative dpo", 1, ends=(1, 2, 3)), record("apo", 1, ends=(1, 2.5, 4))]
    found = row("apo", records)
    assert [one["mean"] for one in found["by_round"]] == [0, 0.5, 1]
    assert [one["mean"] for one in found["a_round_less"]] == [-1, -0.5]


def test_who_is_compared_has_as_many_settings_to_choose_from():
    for method in METHODS.values():
        if method.against is not None:
            assert len(method.grid) == len(METHODS[method.against].grid)
