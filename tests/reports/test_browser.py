"""The page in a browser: it draws every figure, complains of nothing and asks for nothing."""

import re

import folders
import pytest
from browser import opened

from fastslow import training
from fastslow.reports import write_report


def drawn_figures(document: str) -> tuple[int, int]:
    """Figures that the page holds, and figures that were drawn."""
    held = len(re.findall(r'<script type="application/json">', document))
    return held, len(re.findall(r'class="plot js-plotly-plot"', document))


def test_every_figure_is_drawn(recipe, pair_of_continual_runs, tmp_path):
    made = recipe("train.max_steps=10", "eval.every=4", "eval.num_prompts=2")
    training.train(made)
    ordinary = write_report([tmp_path / "run"], tmp_path / "ordinary.html")
    document = opened(ordinary)
    assert drawn_figures(document) == (10, 10)
    assert document.count('class="main-svg"') >= 10

    continual = write_report(pair_of_continual_runs, tmp_path / "continual.html")
    document = opened(continual)
    assert drawn_figures(document) == (12, 12)
    assert document.count('class="hm"') == 2, "heat maps"
    figures = document.split("</main>")[0]
    assert "Download plot" in figures and "Share chart" not in figures


@pytest.mark.parametrize(
    "fault",
    [
        "throw new Error('broken')",
        "console.error('broken')",
        "Promise.reject(new Error('broken'))",
        "Plotly.newPlot(document.querySelector('.plot'))",
    ],
)
def test_a_broken_page_is_found_out(tmp_path, fault):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><body><script>{fault}</script></body></html>")
    with pytest.raises(AssertionError, match="CONSOLE.*(broken|Plotly)"):
        opened(page)


def test_whatever_is_not_the_pages_own_is_refused(tmp_path):
    """Were escaping ever to fail, the page's security policy would stop what came in."""
    run = folders.ordinary(tmp_path / "run", [folders.step(1, pairs=8, loss=0.7)])
    page = write_report([run], tmp_path / "page.html")
    injected = (
        "<script>document.title = 'mine'</script><img src='https://example.org/x.png'>"
        "<link rel='stylesheet' href='https://example.org/x.css'>"
    )
    page.write_text(page.read_text().replace("<main>", f"<main>{injected}"))
    with pytest.raises(AssertionError) as complaints:
        opened(page)
    refused = [line for line in str(complaints.value).splitlines() if "CONSOLE" in line]
    assert len(refused) == 3 and all("Content Security Policy" in line for line in refused)
