"""Stages the pages of the site for the build: README, docs/ and every file that they link to.

`python site/stage.py build/docs` writes `pages/` there, laid out as in this repository, so that
links are the same on the site and in a checkout. `make docs` builds the site from it.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGINNINGS = ("README.md", "CHANGELOG.md", "LOG.md")
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)")


def main(to: Path) -> None:
    shutil.rmtree(to / "pages", ignore_errors=True)
    to.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "site" / "zensical.toml", to)
    waiting = [ROOT / name for name in BEGINNINGS] + sorted((ROOT / "docs").rglob("*.*"))
    shutil.copytree(ROOT / "site" / "style", to / "pages" / "style")
    staged: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in staged:
            continue
        staged.add(path)
        copy = to / "pages" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        if path.suffix == ".md":
            waiting += links(path)


def links(page: Path) -> list[Path]:
    """The repository's files that a page links to. Exits if one is missing."""
    targets = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        if not (path.is_file() and path.is_relative_to(ROOT)):
            sys.exit(f"{page.relative_to(ROOT)}: links to {target}, which is no file here")
        targets.append(path)
    return targets


if __name__ == "__main__":
    main(Path(sys.argv[1]))
