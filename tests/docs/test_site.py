"""The site has every page, its links lead somewhere, and it asks nothing of other servers."""

import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest
from pages import PAGES, ROOT

FOREIGN = re.compile(r"<(?:script|link|img|iframe)[^>]*\s(?:src|href)=[\"']?(?:https?:)?//[^\s>]*")


def staging():
    """site/stage.py as a module."""
    spec = importlib.util.spec_from_file_location("stage", ROOT / "site" / "stage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation():
    listed = re.findall(r'"([\w/.-]+\.md)"', (ROOT / "site" / "zensical.toml").read_text())
    pages = [str(page.relative_to(ROOT)) for page in PAGES] + ["CHANGELOG.md", "LOG.md"]
    assert sorted(listed) == sorted(pages), "put new pages into nav in site/zensical.toml"
    assert tomllib.loads((ROOT / "site" / "zensical.toml").read_text())["project"]["nav"]


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "LOG.md"], ids=lambda p: p.name
)
def test_every_link_leads_to_a_file(page):
    staging().links(page)


def test_a_link_to_nothing_ends_the_staging(tmp_path, monkeypatch):
    stage = staging()
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("[b](b.md#c), [d](https://d.example/e.md), [f](#g)")
    with pytest.raises(SystemExit, match="a.md: links to b.md, which is no file here"):
        stage.links(tmp_path / "a.md")


@pytest.mark.slow
def test_the_built_site_is_whole_and_a_wrong_anchor_fails(tmp_path):
    staging().main(tmp_path)
    with (tmp_path / "pages" / "docs" / "data.md").open("a") as page:
        page.write("\n[wrong](live.md#no-such-section)\n")
    build = [
        "-m",
        "zensical",
        "build",
        "--strict",
        "--config-file",
        str(tmp_path / "zensical.toml"),
    ]
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "1 issue" in done.stdout + done.stderr
    for page in [page.relative_to(ROOT) for page in PAGES if page.name != "README.md"]:
        html = (tmp_path / "site" / page).with_suffix(".html").read_text(encoding="utf-8")
        assert FOREIGN.findall(html) == []
    assert (tmp_path / "site" / "index.html").is_file()
