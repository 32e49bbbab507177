"""Tables of runs as text: what a paper needs, with the numbers of the page."""

import csv
import io

import pytest
from folders import continual, evaluation, ordinary, step

from fastslow.errors import ConfigError
from fastslow.evaluation import wilson_interval
from fastslow.reports import report_table

ROWS = [[0.5, 0.5, 0.5], [0.7, 0.5, 0.5], [0.7, 0.8, 0.5], [0.7, 0.75, 0.85]]
"""Accuracy of the base on three domains, then after each of them."""


@pytest.fixture
def runs(tmp_path):
    """Two runs, the second one without a held-out measurement."""
    events = [step(1, pairs=8, loss=0.6), evaluation("final", 1, accuracy=0.8, reverse_kl=0.25)]
    return [
        ordinary(tmp_path / "a_1", events),
        ordinary(tmp_path / "b", [step(1, pairs=8, loss=0.7)]),
    ]


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_exact_numbers_and_the_ends_of_intervals(runs):
    first, second = table(report_table(runs, "csv"))
    low, high = wilson_interval(32, 40)
    assert first["run"] == "a_1" and float(first["held-out accuracy"]) == 0.8
    assert float(first["held-out accuracy low"]) == low
    assert float(first["held-out accuracy high"]) == high
    assert float(first["wall time (s)"]) == 12.5 and first["pairs"] == "8"
    assert second["held-out accuracy"] == second["held-out accuracy low"] == ""


def test_latex_is_a_tabular_whose_names_are_text(runs):
    lines = report_table(runs, "latex").splitlines()
    assert lines[1].startswith(r"\begin{tabular}{lr") and lines[-1] == r"\end{tabular}"
    first = next(line for line in lines if line.startswith(r"a\_1 & "))
    assert "0.800 (0.652--0.895)" in first and first.endswith(r"\\")
    assert len({line.count(" & ") for line in lines if " & " in line}) == 1
    assert next(line for line in lines if line.startswith("b & ")).split(" & ")[1] == "--"


@pytest.mark.parametrize("name", ["[1] x", "*x"])
def test_a_name_is_no_argument_of_the_line_before_it(tmp_path, name):
    made = ordinary(tmp_path / name, [step(1, pairs=8, loss=0.6)])
    lines = report_table([made], "latex").splitlines()
    assert lines[lines.index(r"\midrule") + 1].startswith(f"{{}}{name} & ")


def test_markdown_is_a_table(runs):
    head, rule, first, second = report_table(runs, "markdown").splitlines()
    assert head.startswith("| run | held-out accuracy |") and "0.800 (0.652 to 0.895)" in first
    assert head.count("|") == rule.count("|") == first.count("|") == second.count("|")


def test_a_run_over_domains_has_a_row_for_each_and_no_interval_of_the_mean(tmp_path):
    mean, *domains = table(report_table([continual(tmp_path / "run", ROWS)], "csv"))
    assert mean["domain"] == "mean" and mean["held-out accuracy low"] == ""
    values = [float(row["held-out accuracy"]) for row in domains]
    assert float(mean["held-out accuracy"]) == pytest.approx(sum(values) / len(values))
    assert all(
        float(row["held-out accuracy low"]) < value < float(row["held-out accuracy high"])
        for row, value in zip(domains, values, strict=True)
    )
    assert all(row["pairs"] == "" for row in domains) and mean["pairs"]


def test_a_name_that_a_spreadsheet_would_compute_stays_text(tmp_path):
    made = ordinary(tmp_path / "=1+1", [step(1, pairs=8, loss=0.6)])
    assert table(report_table([made], "csv"))[0]["run"] == "'=1+1"


def test_another_format_is_refused(runs):
    with pytest.raises(ConfigError, match="got 'xlsx'; allowed are csv, latex, markdown"):
        report_table(runs, "xlsx")
