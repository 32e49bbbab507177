"""What the docs say of objectives is what there is."""

import re
from pathlib import Path

import pytest

from fastslow.objectives import objective_names, objective_settings

PAGE = (Path(__file__).parents[2] / "docs" / "papers.md").read_text()


def as_written(value):
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", objective_names())
def test_the_page_has_every_setting_with_its_default(name):
    (written,) = re.findall(rf"^\| `{name}` \| ([\w., -]+) \|$", PAGE, re.M)
    settings = objective_settings(name)
    assert written == ", ".join(f"{key} {as_written(value)}" for key, value in settings.items())


def test_the_page_has_a_paper_and_a_formula_for_every_objective():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 7]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(objective_names()) <= named
