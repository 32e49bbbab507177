"""A sweep trains each cell once, resumes, and says which is best and how sure that is."""

import json
from dataclasses import replace
from statistics import fmean

import pytest
from typer.testing import CliRunner

from fastslow.bench.suite import finished
from fastslow.bench.sweep import plan_sweep, run_sweep, split_values
from fastslow.bench.sweep_table import as_markdown
from fastslow.cli.main import app
from fastslow.config import dump_recipe, load_recipe
from fastslow.errors import ConfigError, NonFiniteError

GRID = ["train.learning_rate=1e-3,1e-2", "chase=null"]


@pytest.fixture
def source(recipe):
    """A recipe of three steps that keeps a checkpoint of each."""
    made = recipe("train.max_steps=3", "checkpoint.every=1", "eval.num_prompts=0")
    return made.model_dump(mode="json")


def summaries(sweep):
    return {
        path.parent.relative_to(sweep.folder).as_posix(): (path.stat().st_mtime_ns, path)
        for path in sweep.folder.glob("runs/*/*/summary.json")
    }


def test_each_cell_is_trained_once_and_the_grid_can_grow(source):
    sweep = plan_sweep(source, GRID, seeds=2)
    found = run_sweep(sweep)
    made = summaries(sweep)
    assert set(made) == {f"runs/learning_rate={rate}/seed-{seed}"
                         for rate in ("1e-3", "1e-2") for seed in (0, 1)}  # fmt: skip
    for cell in found["cells"]:
        finals = [json.loads(made[run][1].read_text())["eval"]["final"] for run in cell["runs"]]
        assert cell["accuracy"]["mean"] == fmean(one["accuracy"] for one in finals)
        # A bootstrap over two seeds holds the mean half of the time: its ends are these two.
        losses = [one["loss"] for one in finals]
        assert cell["loss"]["low"] < min(losses) and max(losses) < cell["loss"]["high"]
    best = found["cells"][found["best"]]
    assert "behind" not in best
    assert all(
        cell["behind"]["mean"] == pytest.approx(best["accuracy"]["mean"] - cell["accuracy"]["mean"])
        for cell in found["cells"]
        if cell is not best
    )
    wider = plan_sweep(source, ["train.learning_rate=1e-3,1e-2,3e-2", "chase=null"], seeds=2)
    assert len(run_sweep(wider, by="loss")["cells"]) == 3
    again = summaries(wider)
    assert len(again) == 6 and all(again[run] == made[run] for run in made)


def test_a_run_that_was_killed_resumes(source):
    sweep = plan_sweep(source, GRID)

    def kill(event):
        if event["event"] == "step" and event["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finished(sweep.cells[0].recipes[0], kill)
    steps = []
    run_sweep(sweep, on_step=lambda label, step, total: steps.append((label, step, total)))
    first = [step for label, step, _ in steps if label.startswith("train.learning_rate=1e-3")]
    assert first[-1] == 3 and 1 not in first
    assert [one for one in steps if "1e-2" in one[0]][0][1:] == (1, 3)


def test_a_cell_that_diverges_is_told_and_the_others_are_ranked(source):
    found = run_sweep(plan_sweep(source, ["train.learning_rate=1e30,1e-3,1e-2", "chase=null"]))
    wild, *others = found["cells"]
    assert "the loss is nan" in wild["error"] and not {"accuracy", "behind"} & set(wild)
    assert found["best"] in (1, 2) and sum("behind" in cell for cell in others) == 1
    table = as_markdown(found).splitlines()
    assert table[2].startswith("| 1e30 | diverged |") and len({*map(_columns, table[:5])}) == 1
    assert any(line.startswith("train.learning_rate=1e30, seed 0: ") for line in table)
    with pytest.raises(NonFiniteError, match="every cell diverged.*the loss is nan"):
        run_sweep(plan_sweep(source, ["train.learning_rate=1e29,1e30", "chase=null"]))


def _columns(line):
    return line.count("|")


def test_one_seed_has_the_interval_of_its_pairs(source):
    found = run_sweep(plan_sweep(source, GRID))
    for cell in found["cells"]:
        accuracy = cell["accuracy"]
        assert 0 <= accuracy["low"] <= accuracy["mean"] <= accuracy["high"] <= 1
        assert accuracy["low"] < accuracy["high"] and "low" not in cell["loss"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.learning_rate=1e-3,-1"], "train.learning_rate: got -1"),
        (["train.learning_rat=1e-3,1e-2"], "there is no such key"),
        (["objective.name=dpo,dpoo"], "objective.name: got 'dpoo'"),
        (["train.epochs=1,,2"], "give each value once"),
        (["train.epochs=1,1"], "give each value once"),
        (["train.epochs=1,2", "train.epochs=3,4"], "train.epochs: is swept twice"),
        (["output_dir=a,b"], "output_dir: cannot be swept"),
        (["train.epochs=2"], "nothing to sweep"),
        (["data.eval=null", "train.epochs=1,2"], "data.eval: is missing"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_trained(source, settings, said):
    with pytest.raises(ConfigError, match=said):
        plan_sweep(source, settings)


def test_losses_of_different_objectives_are_not_ranked(source):
    sweep = plan_sweep(source, ["objective.name=dpo,ipo"])
    with pytest.raises(ConfigError, match="losses of different objectives"):
        run_sweep(sweep, by="loss")
    with pytest.raises(ConfigError, match="got 'acuracy'; allowed are accuracy, loss"):
        run_sweep(sweep, by="acuracy")
    assert not sweep.folder.exists()


def test_a_cell_that_cannot_be_trained_is_refused_before_others_are(source):
    sweep = plan_sweep(source, ["objective.name=dpo,kto", "train.epochs=1,2"])
    bad = load_recipe(source | {"model": "nowhere/none", "chase": None})
    cells = (sweep.cells[0], type(sweep.cells[1])({"model": "none"}, (bad,)))
    with pytest.raises(ConfigError, match="model=none: .*nowhere/none"):
        run_sweep(type(sweep)(sweep.folder, cells))
    assert not summaries(sweep)


def test_a_cell_of_which_a_seed_is_left_is_looked_at_too(source):
    sweep = plan_sweep(source, GRID, seeds=2)
    finished(sweep.cells[0].recipes[1])
    gone = load_recipe(source | {"model": "nowhere/none", "chase": None})
    cells = (replace(sweep.cells[0], recipes=(gone, sweep.cells[0].recipes[1])), sweep.cells[1])
    with pytest.raises(ConfigError, match="nowhere/none"):
        run_sweep(replace(sweep, cells=cells[::-1]))
    assert len(summaries(sweep)) == 1


def test_seeds_can_be_named(source):
    sweep = plan_sweep(source, ["seed=3,5"])
    assert [recipe.seed for recipe in sweep.cells[0].recipes] == [3, 5]
    with pytest.raises(ConfigError, match="give one of the two"):
        plan_sweep(source, ["seed=3,5"], seeds=2)


def test_commas_inside_brackets_and_quotes_belong_to_a_value():
    given = "[a,b],{name: dpo, beta: 0.1},'c,d',e"
    assert split_values(given) == ["[a,b]", "{name: dpo, beta: 0.1}", "'c,d'", "e"]


def test_the_command_prints_a_table_with_the_best_in_it(source, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(load_recipe(source)))
    shown = CliRunner().invoke(app, ["sweep", str(path), *GRID])
    assert shown.exit_code == 0, shown.output
    assert "learning_rate" in shown.output and "best" in shown.output
    table = (plan_sweep(source, GRID).folder / "table.md").read_text()
    assert table.count("**best**") == 1 and "One seed" in table
