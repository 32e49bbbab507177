"""`fastslow world`, with the smallest base."""

import json
import math

import pytest
from typer.testing import CliRunner

from fastslow import training
from fastslow.bench import tiny_base as scratch
from fastslow.cli.main import app
from fastslow.streams.worlds import World

SMALL = scratch.Pretraining(hidden_size=16, layers=1, heads=2, conversations=400, epochs=1)


@pytest.fixture
def small_base(monkeypatch, tmp_path):
    train = scratch.pretrain_base

    def small(world, *, progress):
        return train(world, settings=SMALL, cache=tmp_path / "bases", progress=progress)

    monkeypatch.setattr(scratch, "pretrain_base", small)


@pytest.mark.slow
def test_a_world_is_written_and_a_run_in_it_knows_its_reward(small_base, tmp_path):

    to = tmp_path / "world"
    options = ["--seed", "4", "--domains", "2", "--pairs", "48", "--held-out", "9"]
    stream = ["--stream", "guests,reviews,guests", "--overlap", "0.5"]
    done = CliRunner().invoke(app, ["world", str(to), *options, *stream])
    assert done.exit_code == 0, done.output
    assert World.load(to / "world.json") == World(seed=4, num_domains=2)
    assert len((to / "stream.jsonl").read_text().splitlines()) == 3 * 48

    summary = training.train(
        {
            "model": str(to / "base"),
            "output_dir": str(tmp_path / "run"),
            "data": {
                "train": str(to / "guests" / "train.jsonl"),
                "eval": str(to / "guests" / "test.jsonl"),
                "max_length": 96,
            },
            "lora": {"rank": 4, "alpha": 8.0},
            "train": {"learning_rate": 1e-2},
            "eval": {
                "num_prompts": 4,
                "num_generations": 2,
                "max_new_tokens": 16,
                "judge": {"kind": "world", "file": str(to / "world.json")},
            },
        }
    )
    start, final = summary.eval["start"], summary.eval["final"]
    assert start["win_rate"] == 0.5  # Against itself, answer for answer.
    assert math.isfinite(final["reward"]) and start["reverse_kl"] == 0 != final["reverse_kl"]
    samples = json.loads((tmp_path / "run" / "samples.json").read_text())
    world = World.load(to / "world.json")
    for sample in samples:
        for name, answer in sample["answers"].items():
            assert sample["rewards"][name] == world.reward(sample["prompt"], answer)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--domains", "9"], "must be from 1 to 6"),
        (["--conflict", "2"], "must be from 0 to 1"),
        (["--stream", "poems"], "got domain 'poems'"),
    ],
)
def test_a_world_that_cannot_be_is_refused(options, text, small_base, tmp_path):
    from fastslow.errors import ConfigError

    done = CliRunner().invoke(app, ["world", str(tmp_path / "w"), *options])
    assert isinstance(done.exception, ConfigError)
    assert text in str(done.exception)


def test_an_existing_folder_is_left_alone(tmp_path):
    done = CliRunner().invoke(app, ["world", str(tmp_path)])
    assert "exists already" in str(done.exception)
