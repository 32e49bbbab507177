"""Every recipe and every piece of Python that the documentation shows fits this version."""

import ast
import importlib
import re
import types

import pytest
from pages import PAGES, PYTHON_PAGE, ROOT, of, spans

from fastslow.config import load_recipe, parse_yaml
from fastslow.objectives import objective_problems

DOTTED = re.compile(r"^(fastslow(?:\.\w+)+)(?:\(.*\))?$")


@pytest.fixture
def named_files(tmp_path, monkeypatch):
    """The folder that tests work in, with every Python file that a block says it is."""
    monkeypatch.chdir(tmp_path)
    for block in of("python"):
        if named := re.match(r"# (\w+\.py)\n", block.text):
            (tmp_path / named[1]).write_text(block.text)


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_every_recipe_is_valid(block, named_files):
    given = parse_yaml(block.text, what=str(block))
    around = parse_yaml(block.marks.get("with", "{}"), what=str(block))
    load_recipe({"model": "m"} | around | given, checks=[objective_problems])


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_every_name_of_the_package_in_a_block_exists(block):
    tree, known = ast.parse(block.text), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "fastslow":
            missing = [name.name for name in node.names if not exists(f"{node.module}.{name.name}")]
            assert missing == []
    if block.page == PYTHON_PAGE:
        known |= {"fs": "fastslow"}
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for name in used:
        first, _, rest = name.partition(".")
        if known.get(first, first) == "fastslow" and re.fullmatch(r"[\w.]+", rest):
            assert exists(f"fastslow.{rest}"), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_name_of_the_package_in_a_sentence_exists(page):
    names = [(line, found[1]) for line, text in spans(page) if (found := DOTTED.match(text))]
    assert [f"{page.name}:{line}: {name}" for line, name in names if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a module has this, or is it."""
    at, *rest = name.split(".")
    found = importlib.import_module(at)
    for part in rest:
        at = f"{at}.{part}"
        if isinstance(found, types.ModuleType) and not hasattr(found, part):
            try:
                found = importlib.import_module(at)
            except ModuleNotFoundError:
                return False
        elif not hasattr(found, part):
            return False
        else:
            found = getattr(found, part)
    return True
