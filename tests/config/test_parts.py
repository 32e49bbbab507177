"""What a recipe's parts become is checked with the recipe: rounds and domains, as stages are."""

import pytest

from fastslow.config import load_recipe, part_recipes
from fastslow.config.continual import start_of
from fastslow.errors import ConfigError
from fastslow.objectives import objective_problems

DOMAINS = [
    {"name": "a", "train": "a.jsonl", "eval": "a-test.jsonl"},
    {"name": "b", "train": "b.jsonl", "eval": "b-test.jsonl"},
    {"name": "a", "train": "c.jsonl", "eval": "a-test.jsonl"},
]
UNMEASURED = [{"name": one["name"], "train": one["train"]} for one in DOMAINS]
RULE = {"kind": "rule", "file": "rule.py"}
ROUNDS = {"data": {"train": "a.jsonl"}, "rounds": {"count": 3}, "judge": RULE}


def load(**sections):
    return load_recipe({"model": "m"} | sections, checks=[objective_problems])


def continual(domains=DOMAINS, **settings):
    return {"domains": domains, **settings}


REFUSED = {
    "no room for the answers in any domain": (
        {"data": {"max_length": 96}, "eval": {"max_new_tokens": 128}, "continual": continual()},
        ["eval.max_new_tokens: got 128; must be below data.max_length = 96"],
    ),
    "a delay where one domain comes from standard input": (
        {"data": {"label_delay": 8}, "continual": continual([{"name": "a", "train": "-"},
                                                             *UNMEASURED[1:]])},
        ["domain 1, a: data.label_delay: shows pairs ahead"],
    ),
    "a reference that would move away from the base from the second round on": (
        ROUNDS | {"reference": "base", "moving_reference": {}},
        ["round 2: moving_reference: begins at the adapter"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_part_would_be_refused_for_is_known_before(name):
    sections, expected = REFUSED[name]
    with pytest.raises(ConfigError) as error:
        load(**sections)
    assert len(error.value.problems) == len(expected), error.value.problems
    for problem, start in zip(error.value.problems, expected, strict=True):
        assert problem.startswith(start)


def test_domains_become_what_the_run_trains():
    whole = load(
        reference="previous", continual=continual(start="recall", anchor="ewc", anchor_strength=2)
    )
    made = part_recipes(whole)
    assert list(made) == ["domain 1, a", "domain 2, b", "domain 3, a"]
    first, second, third = made.values()
    assert [part.data.train for part in made.values()] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert first.data.domain == "a" and first.data.eval == "a-test.jsonl"
    assert first.lora.start_from is None and second.lora.start_from is None
    assert (first.reference, second.reference, third.reference) == ("base", "base", "previous")
    assert third.lora.start_from is not None and third.anchor.strength == 2
    assert first.anchor is None and not any(part.continual for part in made.values())


def test_a_round_after_the_first_starts_from_the_one_before():
    whole = load(**ROUNDS | {"rounds": {"count": 3, "beta": [0.1, 0.2, 0.3]}})
    made = part_recipes(whole)
    assert [part.objective.settings["beta"] for part in made.values()] == [0.1, 0.2, 0.3]
    assert [part.reference for part in made.values()] == ["base", "previous", "previous"]
    assert all(part.rounds is None and part.judge is None for part in made.values())
    assert all(part.eval.judge == whole.judge for part in made.values())


def test_many_rounds_are_checked_as_quickly_as_two():
    assert len(part_recipes(load(**ROUNDS | {"rounds": {"count": 10**9}}))) == 2


def test_an_ordinary_recipe_has_no_parts():
    assert part_recipes(load(data={"train": "a.jsonl"})) == {}


@pytest.mark.parametrize(
    ("start", "name", "expected"),
    [("fresh", "a", None), ("continue", "c", 2), ("recall", "a", 2), ("recall", "b", 1),
     ("recall", "c", None)],
)  # fmt: skip
def test_what_a_domain_starts_from(start, name, expected):
    assert start_of(start, name, ["a", "b", "a"]) == expected
    assert start_of(start, name, []) is None
