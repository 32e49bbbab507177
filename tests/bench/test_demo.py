"""The demo on the smallest base."""

from functools import partial

import pytest
from typer.testing import CliRunner

from fastslow.bench import chasing, demo, scenario
from fastslow.bench.tiny_base import Pretraining, pretrain_base
from fastslow.cli.main import app
from fastslow.streams.worlds import World
from fastslow.training.continual import consolidation

SMALL = Pretraining(hidden_size=16, layers=1, heads=2, conversations=400, epochs=1)


@pytest.fixture
def small_demo(monkeypatch, tmp_path):
    def small(world, **kwargs):
        return pretrain_base(world, settings=SMALL, cache=tmp_path / "bases")

    monkeypatch.setattr(demo, "pretrain_base", small)
    monkeypatch.setattr(scenario, "pretrain_base", small)
    few = {"num_prompts": 2, "num_generations": 2, "max_new_tokens": 8}
    monkeypatch.setattr(scenario, "SAMPLED", few)
    monkeypatch.setattr(demo, "PAIRS", 80)
    monkeypatch.setattr(demo, "RACED", 128)
    monkeypatch.setattr(demo, "RATES", (1e-2,))
    monkeypatch.setattr(chasing, "RATES", {"adamw": (1e-3, 1e-2)})
    monkeypatch.setattr(chasing, "FIXED", 1)
    monkeypatch.setattr(demo, "World", partial(World, num_domains=2))
    monkeypatch.setattr(consolidation, "MOST_STEPS", 6)


@pytest.mark.slow
def test_the_demo_shows_tables_samples_and_a_report_and_can_be_called_again(small_demo, tmp_path):
    to = tmp_path / "demo"
    done = CliRunner().invoke(app, ["demo", "--to", str(to), "--workers", "1"])
    assert done.exit_code == 0, done.output
    for text in (
        "sequential: reward gained after", "distilled: reward gained after", "routed, keeps all",
        "One student in place of", "chasing, started at 1e-2", "(reviews like: ",
    ):  # fmt: skip
        assert text in done.output
    assert (to / "report.html").stat().st_size > 1_000_000
    again = CliRunner().invoke(app, ["demo", "--to", str(to), "--workers", "1"])
    assert again.exit_code == 0, again.output

    def tables(output):
        shown = output[output.index("sequential: reward gained after") :]
        return shown.rpartition("\n")[0].rpartition("\n")[0]

    assert tables(again.output) == tables(done.output)
