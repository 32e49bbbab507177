"""What each kind of method changes of the recipe that all share, and which setting it chooses."""

import pytest

from fastslow.bench.online import FRUGAL, METHODS, _best, _sections
from fastslow.bench.scenario import Scenario
from fastslow.config import DomainConfig, load_recipe

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


def test_final_policies_are_measured_without_what_learning_asks_for():
    measured = scenario(judge=RULE, online={"num_generations": 4}).measured()
    assert measured.online is measured.judge is None
    assert measured.eval.judge.kind == "world"


def records(name, points):
    return [
        {"method": name, "setting": setting, "curve": [{"reward": reward, "reverse_kl": kl}]}
        for setting, reward, kl in points
    ]


def test_a_frugal_method_takes_the_most_reward_within_its_share_of_the_kl():
    dpo = records("dpo", [({"r": 1}, 1.0, 2.0), ({"r": 2}, 0.5, 1.0)])
    hypo = [({"w": 1}, 1.5, 1.9), ({"w": 2}, 1.1, 2.0 * FRUGAL), ({"w": 3}, 0.9, 0.5)]
    assert _best("dpo", dpo) == {"r": 1}
    assert _best("hypo", dpo + records("hypo", hypo)) == {"w": 2}
    too_far = [({"w": 1}, 1.5, 1.9), ({"w": 2}, 1.1, 1.6)]
    assert _best("hypo", dpo + records("hypo", too_far)) == {"w": 2}
