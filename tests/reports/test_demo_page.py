"""The page of `fastslow demo`: all ways and the race, above the two runs."""

import json

import pytest
from browser import opened

from fastslow.errors import StateError
from fastslow.reports import write_report
from fastslow.reports.demo import demo_sections, demo_verdict, read_demo


def way(gain, *domains):
    names = ("reviews", "guests", "notes")
    return {
        "rate": 3e-3, "gain": gain, "ended": gain, "reverse_kl": 1.5,
        "domains": dict(zip(names, domains, strict=True)),
    }  # fmt: skip


WAYS = {
    "routed": way(1.25, 1.5, 1.0, 1.25),
    "sequential": way(0.75, 0.25, 0.5, 1.5),
    "distilled": way(1.0, 1.0, 1.0, 1.0),
    "sum": way(0.5, 0.5, 0.5, 0.5),
}
RUNS = {"distilled": "careful", "sequential": "careless"}
RACE = {"chase": 0.033, "dpo-0.01": 0.04, "dpo-0.001": 0.0, "dpo-0.03": 6.4}


@pytest.fixture
def demo(tmp_path, pair_of_continual_runs):
    def write(**changes):
        found = {"ways": WAYS, "race": RACE, "runs": RUNS} | changes
        (tmp_path / "demo.json").write_text(json.dumps(found))
        return tmp_path

    return write


def test_the_sentence_says_who_kept_what_and_how_the_race_ended(demo):
    said = demo_verdict(read_demo(demo()))
    assert "2 nats of KL, one student that the modules teach keeps +1.00 reward" in said
    assert "all modules, with a router, keep +1.25, their sum +0.50" in said
    assert "(sequential DPO) +0.75" in said
    assert "loses 3.3% more than DPO at the best of 3 rates" in said
    assert said.endswith("at the worst of them DPO loses 640% more.")
    assert "loses 1.0% less" in demo_verdict(read_demo(demo(race=RACE | {"chase": -0.01})))


def test_figures_show_every_way_on_every_domain_and_every_rate(demo):
    kept, race = (plot.figure for plot in demo_sections(read_demo(demo()))[0].plots)
    (heat,) = kept.data
    assert [list(row) for row in heat.z] == [
        [0.25, 0.5, 1.5], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0], [1.5, 1.0, 1.25],
    ]  # fmt: skip
    rows = kept.layout.yaxis.ticktext
    assert [row.split("<br>")[0] for row in rows] == [
        "sequential DPO", "sum of the modules", "one student", "all modules, routed",
    ]  # fmt: skip
    (bars,) = race.data
    assert bars.x == ("chasing", "DPO 0.001", "DPO 0.01", "DPO 0.03")
    assert bars.y == (1.033, 1.0, 1.04, 7.4) and bars.text[-1] == "+640.0%"


def test_the_page_has_both_figures_above_the_runs(demo):
    folder = demo()
    page = write_report([folder], folder / "report.html")
    document = opened(page)
    assert "Several domains, one after another" in document and "teach keeps +1.00" in document
    assert document.index("What came out</h2>") < document.index("Retention</h2>")
    assert "DPO 0.03</text>" in document
    assert "careful" not in document.split("Settings</h2>")[0]  # Ways are called as above.


@pytest.mark.parametrize(
    "changes",
    [
        {"ways": {"sum": WAYS["sum"]}}, {"race": {}}, {"race": 3}, {"runs": {"sum": 3}},
        {"ways": WAYS | {"sum": {"rate": 1}}}, {"more": 1}, {"runs": {"sum": "../x"}},
        {"runs": {"other": "careful"}},
    ],
)  # fmt: skip
def test_damaged_results_are_one_error(demo, tmp_path, changes):
    with pytest.raises(StateError, match=r"demo\.json is damaged|does not lie in it"):
        write_report([demo(**changes)], tmp_path / "report.html")
