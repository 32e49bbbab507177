"""The documentation of a recipe's keys."""

from pathlib import Path

import pytest

from fastslow.config.reference import describe, markdown
from fastslow.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def test_the_page_of_the_documentation_is_up_to_date():
    assert PAGE.read_text() == markdown(), (
        "run: python -m fastslow.config.reference > docs/recipe.md"
    )


def test_one_key_has_its_type_default_and_meaning():
    assert describe("chase.slow_ratio") == (
        "chase.slow_ratio  (number > 0, <= 1; default 0.3)\n"
        "    Learning rate of an adapter over that of the next faster one."
    )


def test_a_section_has_its_keys_and_names_those_in_it():
    text = describe("data")
    assert text.startswith("data\n  ") and "data.max_length  (integer >= 2; default 1024)" in text
    assert "Sections in it: rounds.engine." in describe("rounds")
    assert all(f"judge: kind {kind}" in describe("judge") for kind in ("world", "rule", "llm"))


def test_a_section_in_two_places_is_found_in_both_and_printed_whole_once():
    assert "online.engine.url" in describe("online.engine.url")
    assert "rounds.engine.url" in describe("rounds.engine")
    everything = describe()
    assert "rounds.engine.url" in everything and "online.engine.url" not in everything
    assert "model  (text; required)" in everything


def test_an_old_name_leads_to_the_new_one():
    text = describe("eval.samples")
    assert text.startswith("eval.samples is called eval.num_prompts now.") and "default 64" in text
    assert "| `eval.samples` | `eval.num_prompts` |" in markdown()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("chase.slow_ration", "did you mean 'chase.slow_ratio'?"),
        ("learning_rate", "write train.learning_rate"),
        ("lora_r", "write lora.rank"),
        ("trian", "did you mean 'train'?"),
        ("judge.with_prompt", "was removed"),
    ],
)
def test_a_key_that_does_not_exist_gets_a_hint(key, message):
    with pytest.raises(ConfigError, match=message):
        describe(key)
