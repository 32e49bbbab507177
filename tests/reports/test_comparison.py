"""The page of methods that `fastslow bench online` compared."""

import json

import pytest
from browser import opened

from fastslow.errors import StateError
from fastslow.reports import write_report
from fastslow.reports.comparison import comparison_sections, read_comparison, setting_line


def moment(answers, reward, *, low=None, high=None):
    values = {"answers": answers, "seconds": answers / 10, "reverse_kl": answers / 100,
              "win_rate": 0.75, "mean_length": 20.0}  # fmt: skip
    found = {key: {"mean": value} for key, value in values.items()}
    own = {"mean": reward} if low is None else {"mean": reward, "low": low, "high": high}
    return found | {"reward": own}


def results(**curves):
    rows = {
        name.replace("_", "<"): {"curve": curve, "end": curve[-1]} for name, curve in curves.items()
    }
    return {"setting": {"worlds": [5, 6], "pairs": 512}, "methods": rows}


FOUND = results(
    dpo=[moment(0, -0.5), moment(0, 0.5, low=0.25, high=1.0)],
    b_c=[moment(0, -0.5), moment(100, 0.75), moment(200, 1.5, low=1.0, high=1.75)],
)


@pytest.fixture
def compared(tmp_path):
    def write(found):
        (tmp_path / "results.json").write_text(json.dumps(found))
        return tmp_path

    return write


def test_curves_show_what_was_measured():
    curves, ends = comparison_sections(FOUND)
    answers, seconds, way = (plot.figure.data for plot in curves.plots)
    assert [trace.name for trace in answers] == ["b&lt;c"], "dpo samples no answers"
    assert [trace.name for trace in seconds] == ["dpo", "b&lt;c"]
    for shown, scale in ((answers, 1), (seconds, 0.1), (way, 0.01)):
        (trace,) = (trace for trace in shown if trace.name == "b&lt;c")
        assert trace.x == (0, 100 * scale, 200 * scale) and trace.y == (-0.5, 0.75, 1.5)
        assert trace.error_y.array == (0, 0, 0.25) and trace.error_y.arrayminus == (0, 0, 0.5)
        assert trace.line.color == way[1].line.color != way[0].line.color
    (table,) = ends.tables
    assert table.rows[1].cells == ["1.50", "2.00", "75%", "20", "200", "20"]
    assert setting_line(FOUND) == "worlds 5, 6; pairs 512"


def test_one_seed_has_no_whisker():
    curves, _ = comparison_sections(results(dpo=[moment(0, 0.0), moment(0, 1.0)]))
    assert len(curves.plots) == 2, "no method samples answers"
    assert curves.plots[0].figure.data[0].error_y.array == (0, 0)


def test_the_page_draws_its_figures(compared):
    page = write_report([compared(FOUND)], compared(FOUND) / "report.html")
    document = opened(page)
    assert document.count('class="plot js-plotly-plot"') == 3
    assert document.count("b&lt;c</text>") == 3, "in every legend, as text"


@pytest.mark.parametrize(
    "found",
    [{"methods": {"cofs": {"kept": 1.0}}}, {"methods": []}, [], {"methods": {"a": {"curve": [3]}}}],
)
def test_results_of_something_else_are_refused(compared, found):
    with pytest.raises(StateError, match="results.json has no method curves.*bench online"):
        read_comparison(compared(found))


def test_results_without_a_method_are_refused(compared):
    with pytest.raises(StateError, match="no measured method"):
        read_comparison(compared({"methods": {}}))
