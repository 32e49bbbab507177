"""Scenarios of files: what the shared recipe leaves out, and what it is refused for."""

import pytest
import tiny

from fastslow import load_recipe
from fastslow.bench.methods import JOINT, TRAININGS
from fastslow.bench.scenario import files_scenario
from fastslow.errors import ConfigError


@pytest.fixture
def folders(tmp_path):
    """Two domains with training and held-out pairs."""
    made = [tmp_path / name for name in ("warm", "cold")]
    for folder in made:
        folder.mkdir()
        tiny.write_rows(folder / "train.jsonl", tiny.domain_rows(folder.name, 24))
        tiny.write_rows(folder / "test.jsonl", tiny.domain_rows(folder.name, 8, seed=1))
    return made


@pytest.mark.parametrize("training", TRAININGS)
def test_a_recipe_of_a_model_alone_makes_every_training(folders, tmp_path, training):
    scenario = files_scenario(folders, load_recipe({"model": "m"}), tmp_path / "to", pairs=16)
    made = scenario.recipe(training, 1e-3, tmp_path / "run", pairs=16, measure=True)
    steps = 1 if training != JOINT else 2
    assert made.train.max_steps == steps and made.train.batch_size == 16


def test_what_could_not_be_measured_after_training_is_refused_before(folders, tmp_path):
    shared = load_recipe(
        {"model": "m", "data": {"max_length": 96}, "eval": {"max_new_tokens": 128}}
    )
    with pytest.raises(ConfigError, match=r"eval.max_new_tokens: got 128; must be below"):
        files_scenario(folders, shared, tmp_path / "to", pairs=16)
