"""Run folders as they are found: finished, being written, cut short, damaged, none at all."""

import json
import tracemalloc

import folders
import pytest

from fastslow import training
from fastslow.errors import ConfigError, StateError
from fastslow.reports.columns import Numbers
from fastslow.reports.drawn import drawn_runs
from fastslow.reports.events import read_record
from fastslow.reports.headline import headline, latest, test_then_train
from fastslow.reports.page import write_report
from fastslow.reports.runs import read_runs
from fastslow.reports.tables import ABSENT

mean_before_learning = test_then_train
del test_then_train  # pytest would take it for a test.

EVENTS = [
    folders.evaluation("start", 0),
    folders.step(1, pairs=8, loss=0.7),
    folders.step(2, pairs=16, loss=0.5),
    {"event": "swap", "step": 2, "leader": "slow"},
    {"event": "warning", "step": 2, "message": "take care"},
    folders.step(3, pairs=20, loss=0.3, leader="slow"),
    folders.evaluation("final", 3, accuracy=0.75, reward=1.5),
]


def test_an_ordinary_run(tmp_path):
    (run,) = read_runs([folders.ordinary(tmp_path / "run", EVENTS)])
    (record,) = run.records
    assert [*record.steps.pairs] == [8, 16, 20]
    assert [*record.steps.values["loss"]] == [0.7, 0.5, 0.3]
    assert record.steps.leader == ["fast", "fast", "slow"]
    assert record.steps.modules["slow"]["grad_norm"] == [0.5, None, 0.5]
    assert [(e.moment, e.pairs) for e in record.evaluations] == [("start", 0), ("final", 20)]
    assert [(s.step, s.pairs, s.leader) for s in record.swaps] == [(2, 16, "slow")]
    assert run.warnings == ["step 2: take care"] and not run.continual
    assert latest(run)["reward"] == 1.5
    # 8 pairs at 0.7, 8 at 0.5, 4 at 0.3.
    assert mean_before_learning(run, "loss") == pytest.approx((8 * 0.7 + 8 * 0.5 + 4 * 0.3) / 20)


def test_a_real_run_says_what_its_summary_says(recipe, tmp_path):
    summary = training.train(recipe("train.max_steps=3"))
    (run,) = read_runs([tmp_path / "run"])
    assert run.pairs == summary.pairs_seen and len(run.records[0].steps.step) == 3
    for key in ("accuracy", "loss"):
        assert mean_before_learning(run, key) == pytest.approx(summary.prequential[key])
    final = {key: latest(run)[key] for key in summary.eval["final"]}
    assert final == summary.eval["final"]


def test_a_continual_run_is_one_stream(pair_of_continual_runs):
    run, _ = read_runs(pair_of_continual_runs)
    assert [record.domain for record in run.records] == ["reviews", "requests", "notes"]
    assert [record.begins for record in run.records] == [0, 160, 320] and run.pairs == 480
    assert run.records[1].steps.pairs[0] == 168
    assert [swap.pairs for record in run.records for swap in record.swaps] == [80, 240, 400]
    assert latest(run)["accuracy"] == pytest.approx((0.7 + 0.75 + 0.8) / 3)


def test_an_unfinished_run_shows_what_it_has(tmp_path):
    folder = folders.ordinary(tmp_path / "run", EVENTS, finished=False)
    with (folder / "events.jsonl").open("ab") as file:
        file.write('{"event": "step", "message": "é'.encode()[:-1])
    (run,) = read_runs([folder])
    assert run.pairs == 20 and run.summary is None
    table = headline(drawn_runs([run]), outcome=True)
    assert table.rows[0].note == "not finished" and "wall time" not in table.columns


def test_a_run_that_has_only_begun(tmp_path):
    folder = folders.ordinary(tmp_path / "run", [], finished=False)
    (folder / "events.jsonl").unlink()
    (run,) = read_runs([folder])
    assert run.pairs == 0 and latest(run) == {}


def test_an_unfinished_continual_run_takes_its_domains_from_their_folders(pair_of_continual_runs):
    folder = pair_of_continual_runs[0]
    (folder / "summary.json").unlink()
    (run,) = read_runs([folder])
    assert [record.domain for record in run.records] == ["reviews", "requests", "notes"]
    assert run.retention is None and latest(run) == {}


def test_damage_before_the_last_line_is_not_passed_over(tmp_path):
    folder = folders.ordinary(tmp_path / "run", EVENTS)
    lines = (folder / "events.jsonl").read_text().splitlines()
    (folder / "events.jsonl").write_text("\n".join([lines[0], lines[1][:40], *lines[2:]]) + "\n")
    with pytest.raises(StateError, match=r"events.jsonl:2: not JSON"):
        read_runs([folder])
    (folder / "events.jsonl").write_text(json.dumps({"event": "step", "step": 1}) + "\n")
    with pytest.raises(StateError, match=r"events.jsonl:1: not an event .*pairs_seen"):
        read_runs([folder])
    (folder / "summary.json").write_text("{")
    with pytest.raises(StateError, match=r"summary.json cannot be read"):
        read_runs([folder])


def test_what_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(StateError, match=r"none is not a run folder: it does not exist; give"):
        read_runs([tmp_path / "none"])
    with pytest.raises(StateError, match=r"is not a run folder: it has no config.yaml"):
        read_runs([tmp_path])
    with pytest.raises(ConfigError, match="no run folder given"):
        read_runs([])
    folder = folders.ordinary(tmp_path / "run", EVENTS)
    with pytest.raises(ConfigError, match="run: given twice"):
        read_runs([folder, tmp_path / "x" / ".." / "run"])


def test_runs_of_one_name_are_told_apart(tmp_path):
    names = ["a/run", "b/run", "other"]
    runs = read_runs([folders.ordinary(tmp_path / name, EVENTS) for name in names])
    assert [run.label for run in runs] == names


def test_a_recipe_of_another_version_does_not_hide_the_run(tmp_path):
    folder = folders.ordinary(tmp_path / "run", EVENTS)
    (folder / "config.yaml").write_text("model: m\nunheard_of: 1\n")
    (run,) = read_runs([folder])
    assert run.recipe is None and "unheard_of" in run.yaml and run.pairs == 20


def configured(folder, text, events=EVENTS):
    made = folders.ordinary(folder, events)
    (made / "config.yaml").write_text(folders.CONFIG + text)
    return made


def test_different_references_stand_in_a_column_of_their_own(tmp_path):
    plain = folders.ordinary(tmp_path / "plain", EVENTS)
    same = configured(tmp_path / "same", "seed: 3\n")
    begun = configured(tmp_path / "begun", "lora: {start_from: runs/sft/adapters/policy}\n")
    back = configured(tmp_path / "back", "lora: {start_from: runs/sft}\nreference: base\n")
    moving = configured(tmp_path / "moving", "moving_reference: {every: 2}\n")

    def column(*runs):
        table = headline(drawn_runs(read_runs(runs)), outcome=True)
        if "reference" not in table.columns:
            return None
        place = table.columns.index("reference")
        return [row.cells[place] for row in table.rows]

    assert column(plain) is None and column(plain, same) is None and column(plain, back) is None
    assert column(plain, begun) == ["base models/tiny", "adapter runs/sft/adapters/policy"]
    assert column(plain, moving)[1] == "base models/tiny, moving in training"


def test_domains_learned_against_the_policy_before_are_measured_against_the_base(
    pair_of_continual_runs,
):
    against_base, previous = pair_of_continual_runs
    several = (
        "model: models/tiny\noutput_dir: runs/x\nreference: previous\ncontinual: {start: continue, "
        "weights: null, domains: [{name: a, train: a.jsonl}, {name: b, train: b.jsonl}]}\n"
    )
    (previous / "config.yaml").write_text(several)
    runs = drawn_runs(read_runs([against_base, previous]))
    assert "reference" not in headline(runs, outcome=True).columns
    figures = headline(runs, outcome=False)
    cells = [row.cells[figures.columns.index("learned against")] for row in figures.rows]
    assert cells == [ABSENT, "the policy before each domain"]


def test_a_page_of_different_references_says_so(tmp_path):
    plain = folders.ordinary(tmp_path / "plain", EVENTS)
    begun = configured(tmp_path / "begun", "lora: {start_from: runs/sft}\n")
    said = "The runs have different references"
    both = write_report([plain, begun], tmp_path / "both.html").read_text()
    assert said in both
    assert said not in write_report([plain], tmp_path / "one.html").read_text()


def test_a_step_takes_a_few_bytes_a_number(tmp_path):
    count = 4000
    events = [folders.step(n, pairs=8 * n, loss=1 / n) for n in range(1, count + 1)]
    run = folders.ordinary(tmp_path / "run", events)
    tracemalloc.start()
    record = read_record(run / "events.jsonl")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(record.steps.pairs) == count and held < 200 * count, "16 numbers and a leader"


def test_numbers_are_what_was_appended():
    values = [1.5, None, 0.0, -2.0, None]
    numbers = Numbers(values)
    assert list(numbers) == values == numbers and numbers[1:3] == [None, 0.0]
    assert numbers[0] == 1.5 and numbers[-1] is None and not numbers.empty
    assert Numbers([None, None]).empty and Numbers().empty


def test_a_number_too_large_for_a_step_is_an_error(tmp_path):
    run = folders.ordinary(tmp_path / "run", [folders.step(2**70, pairs=8, loss=0.5)])
    with pytest.raises(StateError, match="events.jsonl:1: not an event"):
        read_record(run / "events.jsonl")
