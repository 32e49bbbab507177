"""What the project says of itself: bounds with reasons, extras, a version with notes, pages."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(TEXT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED = [*PROJECT["dependencies"], *(each for e in EXTRAS if e != "dev" for each in EXTRAS[e])]


@pytest.mark.parametrize("text", NEEDED)
def test_every_requirement_has_a_lower_bound_with_a_reason(text):
    (bound,) = Requirement(text).specifier
    assert bound.operator == ">=", f"{text}: an upper bound would refuse whoever has a newer one"
    assert re.search(rf'^  "{re.escape(text)}",  # \w.{{9,}}$', TEXT, re.M), f"{text}: say why"


def test_no_lower_bound_is_above_what_is_tested():
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M))
    (tested["torch"],) = re.findall(
        r"^TORCH := torch==(\S+)$", (ROOT / "Makefile").read_text(), re.M
    )
    for requirement in map(Requirement, NEEDED):
        version = tested[requirement.name.replace("_", "-")]
        assert requirement.specifier.contains(version), f"{requirement}: {version} is tested"


def test_python_is_the_same_everywhere():
    lowest = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])[1]
    assert f"sys.version_info < (3, {lowest})" in (ROOT / "Makefile").read_text()
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert named and all(SpecifierSet(PROJECT["requires-python"]).contains(v) for v in named)


def test_the_page_lists_every_extra():
    page = (ROOT / "docs" / "install.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert sorted(listed) == sorted(EXTRAS)


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    if "dev" in PROJECT["version"]:
        assert first == "Unreleased"
    else:
        assert re.fullmatch(rf"{re.escape(PROJECT['version'])} \(\d{{4}}-\d\d-\d\d\)", first)


@pytest.mark.parametrize(
    "page", ["docs/install.md", "SECURITY.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md"]
)
def test_pages_are_found_and_lead_somewhere(page):
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    assert any(Path(page).name in link for p in pages for link in links(p)), page
    for link in links(ROOT / page):
        assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"


def links(page):
    """Where a page's relative links lead."""
    found = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "AGENTS.md", "docs/install.md"])
def test_what_a_page_says_to_make_can_be_made(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / page).read_text(), re.M)
    assert asked and set(asked) <= targets
