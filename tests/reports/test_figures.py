"""What the figures show is what the runs recorded."""

import folders
import pytest

from fastslow.reports.curves import trailing_mean
from fastslow.reports.drawn import COLOURS, drawn_runs
from fastslow.reports.frontier_figure import frontier_figure
from fastslow.reports.headline import headline
from fastslow.reports.leader_figure import leader_figure, leading
from fastslow.reports.lines import POINTS, heldout_lines, leader_line, module_lines
from fastslow.reports.retention import retention_figure
from fastslow.reports.runs import read_runs
from fastslow.reports.samples import answered_prompts
from fastslow.reports.sections import all_sections
from fastslow.reports.stream_figures import training_figure
from fastslow.reports.tables import changed_settings, retention_table
from fastslow.reports.verdict import verdict


@pytest.fixture
def pair(pair_of_continual_runs):
    return drawn_runs(read_runs(pair_of_continual_runs))


def one_run(folder, events):
    return drawn_runs(read_runs([folders.ordinary(folder, events)]))


def lines_of(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_curves_are_the_events(tmp_path):
    losses = [0.7 - 0.001 * n + 0.05 * (n % 3) for n in range(60)]
    events = [folders.step(n + 1, pairs=8 * (n + 1), loss=loss) for n, loss in enumerate(losses)]
    events.insert(30, folders.evaluation("eval", 30, loss=0.66))
    drawn = one_run(tmp_path / "run", events)
    figure = training_figure(
        drawn, module_lines("loss"), "loss", heldout=heldout_lines({"held out": "loss"})
    )
    raw, _ = lines_of(figure, "batches")
    assert list(raw.x) == [8 * n for n in range(1, 61)] and list(raw.y) == pytest.approx(losses)
    (fast,), (slow,) = lines_of(figure, "fast"), lines_of(figure, "slow")
    expected = trailing_mean(leader_line("loss")(drawn[0].run.records[0])["leader"], 24).y
    assert list(fast.y) == pytest.approx(expected, rel=1e-5)
    assert list(slow.y) == pytest.approx([y + 0.01 for y in expected], rel=1e-5)
    (heldout,) = lines_of(figure, "held out")
    assert (heldout.x, heldout.y) == ((240,), (0.66,))
    norms = lines_of(training_figure(drawn, module_lines("grad_norm"), "norm"), "slow")[0]
    assert list(norms.x) == [8 * n for n in range(1, 61, 2)], "a module that sat out has no point"


def test_a_long_run_becomes_a_small_figure(tmp_path):
    events = [folders.step(n, pairs=n, loss=float(n == 7777)) for n in range(1, 20_001)]
    figure = training_figure(one_run(tmp_path / "run", events), leader_line("loss"), "loss")
    (raw,) = lines_of(figure, "batches")
    assert len(raw.x) <= POINTS and (raw.x[0], raw.x[-1]) == (1, 20_000)
    assert raw.y[raw.x.index(7777)] == 1.0, "a lone peak survives"


def test_domains_follow_one_another_with_a_gap_and_a_line(pair):
    figure = training_figure(pair, leader_line("loss"), "loss")
    raw = lines_of(figure, "batches")[0]
    assert list(raw.x).count(None) == 2 and raw.x[20:22] == (None, 168)
    assert [shape.x0 for shape in figure.layout.shapes] == [160, 320]
    names = [(a.text, a.x) for a in figure.layout.annotations]
    assert names == [("reviews", 0), ("requests", 160), ("notes", 320)]


def test_who_leads_when(pair):
    record = pair[0].run.records[1]
    assert list(leading(record)) == [("fast", 160, 240), ("slow", 240, 320)]
    bars, swaps = leader_figure(pair[:1]).data
    assert list(bars.x[:6]) == [0, 80, None, 80, 160, None]
    assert list(bars.y[:6]) == [0, 0, None, 1, 1, None]
    assert list(swaps.x) == [80, 240, 400]
    both = leader_figure(pair).data
    assert both[0].y[0] == pytest.approx(-0.175) and both[2].y[0] == pytest.approx(0.175)


def test_the_frontier_is_reward_over_all_domains_where_there_is_one(pair):
    careful, careless = frontier_figure(pair, "reward").data
    assert list(careful.x) == [0, 1, 2, 3]
    assert list(careful.y) == pytest.approx([5, 10 * 1.85 / 3, 10 * 2.15 / 3, 7.5])
    assert careful.marker.symbol[0] == "circle-open" and careful.marker.size[-1] == 14
    assert careful.line.color == COLOURS[0] and careless.line.color == COLOURS[1]
    frontier = next(s for s in all_sections(pair) if s.title == "Judge score against KL")
    assert frontier.plots[0].figure.layout.yaxis.title.text == "judge score"


def test_an_ordinary_runs_frontier_is_its_evaluations(tmp_path):
    events = [
        folders.evaluation("start", 0),
        folders.step(1, pairs=8, loss=0.7),
        folders.evaluation("eval", 1, accuracy=0.6, reverse_kl=None),
        folders.evaluation("final", 1, accuracy=0.7, reverse_kl=1.25),
    ]
    (trace,) = frontier_figure(one_run(tmp_path / "run", events), "accuracy").data
    assert list(zip(trace.x, trace.y, strict=True)) == [(0, 0.5), (1.25, 0.7)]


def test_retention_shows_the_base_first_and_one_colour_scale(pair):
    retention = next(s for s in all_sections(pair) if s.title == "Retention")
    first, second = (plot.figure.data[0] for plot in retention.plots)
    assert [list(row) for row in first.z][:2] == [[5, 5, 5], [8, 5.5, 5]]
    assert first.zmin == second.zmin == 5 and first.zmax == second.zmax == 9
    layout = retention.plots[0].figure.layout
    assert layout.yaxis.ticktext == ("base", "after reviews", "after requests", "after notes")
    assert layout.yaxis.autorange == "reversed"
    rows = {row.heading: row.cells for row in retention_table(pair).rows}
    assert rows["careful, accuracy"] == ["0.750", "-0.050", "+0.020", "0.060"]


def test_retention_without_reward_or_with_one_domain(tmp_path):
    path = folders.continual(tmp_path / "one", [[0.5], [0.8]], domains=("only",), reward=False)
    summary = (path / "summary.json").read_text().replace("-0.05", "null")
    (path / "summary.json").write_text(summary)
    drawn = drawn_runs(read_runs([path]))
    figure = retention_figure(drawn[0].run.retention, "accuracy", (0.5, 0.8))
    assert list(figure.data[0].z) == [[0.5], [0.8]]
    assert retention_table(drawn).rows[0].cells[1] == "–"
    assert "judge score" not in headline(drawn, outcome=True).columns


def test_the_headline_has_a_row_a_run_and_only_columns_with_a_value(pair):
    table, more = headline(pair, outcome=True), headline(pair, outcome=False)
    assert [row.heading for row in table.rows] == ["careful", "careless"]
    row = dict(zip(table.columns, table.rows[0].cells, strict=True))
    assert row["held-out accuracy"] == "0.750" and row["judge score"] == "7.500"
    assert row["win rate vs base"] == "0.500", "a mean of intervals is no interval"
    assert row["pairs"] == "480" and row["wall time"] == "12.3 s"
    assert dict(zip(more.columns, more.rows[0].cells, strict=True))["steps"] == "60"


def test_the_first_sentence_says_who_gained_what_and_at_what_kl(pair, tmp_path):
    runs = [one.run for one in pair]
    assert verdict(runs) == (
        "careful gained most: +2.500 in judge score at 3.00 nats of reverse KL; careless +1.833 at "
        "3.00."
    )
    events = [
        folders.evaluation("start", 0),
        folders.step(1, pairs=8, loss=0.7),
        folders.evaluation("final", 1, accuracy=0.7, reverse_kl=1.25),
    ]
    (alone,) = one_run(tmp_path / "run", events)
    assert verdict([alone.run]) == (
        "The held-out accuracy rose from 0.500 to 0.700 at 1.25 nats of reverse KL."
    )


def test_results_come_first_and_the_course_of_training_is_folded(pair, tmp_path):
    sections = all_sections(pair)
    shown = [section.title for section in sections if not section.folded]
    assert shown == ["Retention", "Judge score against KL"]
    assert [s.folded for s in sections] == [False] * 2 + [True] * (len(sections) - 2)
    (alone,) = one_run(tmp_path / "run", [folders.step(1, pairs=8, loss=0.7)])
    assert not all_sections([alone])[0].folded, "something is always open"


def test_an_axis_shows_nothing_beyond_what_can_be(tmp_path):
    drawn = one_run(tmp_path / "run", [folders.step(1, pairs=8, loss=0.7)])
    axis = training_figure(drawn, leader_line("accuracy"), "accuracy").layout.yaxis
    assert (axis.autorangeoptions.minallowed, axis.autorangeoptions.maxallowed) == (0, 1)


def test_an_ordinary_runs_win_rate_has_its_interval(tmp_path):
    rates = {"win_rate": 0.7, "win_rate_low": 0.6, "win_rate_high": 0.78}
    table = headline(
        one_run(tmp_path / "run", [folders.evaluation("final", 0, **rates)]), outcome=True
    )
    assert table.rows[0].cells[table.columns.index("win rate vs base")] == (
        "0.700\n(0.600 to 0.780)"
    )


def test_sections_without_data_are_left_out(tmp_path):
    events = [folders.step(1, pairs=8, loss=0.7)]
    modules = {"policy": {"loss": 0.7, "margin": 0.0, "grad_norm": 1.0}}
    single = [events[0] | {"leader": "policy", "modules": modules}]
    titles = [section.title for section in all_sections(one_run(tmp_path / "run", single))]
    assert titles == ["Training curves", "Log-ratios of chosen and rejected", "Regret"]
    assert all_sections(one_run(tmp_path / "empty", [])) == []


def test_fresh_answers_have_their_own_curves(tmp_path):
    events = [folders.step(n, pairs=8 * n, loss=0.7, score=n / 4) for n in range(1, 5)]
    for number in (2, 4):
        events[number - 1]["modules"]["fast"]["ratio_deviation"] = number / 100
        events[number - 1]["modules"]["slow"]["ratio_deviation"] = 9.0
        events[number - 1]["critic"] = {"loss": 9.0, "explained_variance": number / 10}
    sections = all_sections(one_run(tmp_path / "run", events))
    (found,) = (section for section in sections if section.title == "Training completions")
    curves = {plot.title: lines_of(plot.figure, "leader")[0] for plot in found.plots}
    assert {title: (curve.x, curve.y) for title, curve in curves.items()} == {
        "Judge score": ((8, 16, 24, 32), (0.25, 0.5, 0.75, 1.0)),
        "Ratio deviation": ((16, 32), (0.02, 0.04)),
        "Critic": ((16, 32), (0.2, 0.4)),
    }


def test_samples_of_one_prompt_stand_side_by_side(pair):
    (answered,) = answered_prompts(pair)
    shown = [(answer.policy, answer.reward, answer.colour) for answer in answered.answers]
    assert shown == [
        ("base", "-1.250", None),
        ("careful: combined", "2.500", COLOURS[0]),
        ("careless: combined", "2.500", COLOURS[1]),
    ]


def test_settings_that_differ_from_the_defaults(tmp_path):
    paths = [folders.ordinary(tmp_path / name, []) for name in ("a", "b")]
    with (paths[1] / "config.yaml").open("a") as file:
        file.write("seed: 7\nchase: null\n")
    table = changed_settings(read_runs(paths))
    rows = {row.heading: row.cells for row in table.rows}
    assert table.columns == ["default", "a", "b"] and rows["seed"] == ["0", "0", "7"]
    assert rows["chase"] == ["–", "–", "null"] and "lora.rank" not in rows
