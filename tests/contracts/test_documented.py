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


def test_the_readme_counts_them():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    found = re.findall(r"(\d+) \[objectives\]|\bone of (\d+)", readme)
    counts = {int(number) for numbers in found for number in numbers if number}
    assert counts == {len(objective_names())}, "the number of objectives in README.md"


@pytest.mark.parametrize("name", objective_names())
def test_the_page_has_every_setting_with_its_default(name):
    settings = objective_settings(name)
    values = ", ".join(f"{key} {as_written(value)}" for key, value in settings.items())
    written = re.findall(rf"^\| `{name}` \| ([\w., -]+) \|$", PAGE, re.M)
    row = f"| `{name}` | {values} |"
    assert written == [values], f"the settings in docs/papers.md must have once: {row}"


def test_the_page_has_a_paper_and_a_formula_for_every_objective():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `") and line.count("|") == 7]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    lacking = sorted(set(objective_names()) - named)
    assert not lacking, f"add a row with the formula of {lacking} to the table in docs/papers.md"
