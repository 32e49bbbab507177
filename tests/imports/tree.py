"""The tree of the package with what each file says of itself first, as docs/architecture.md has it.

`python tests/imports/tree.py` writes it there.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- tree -->\n```\n", "```\n<!-- end of tree -->\n"


def tree(folder: Path = ROOT / "src" / "fastslow") -> str:
    """One line a folder or file, folders first, with the first sentence of its docstring."""
    return f"{folder.name}/\n" + "".join(f"{line}\n" for line in _lines(folder, "  "))


def _lines(folder: Path, indent: str):
    entries = [path for path in folder.iterdir() if not path.name.startswith(("__", "."))]
    for path in sorted(entries, key=lambda path: (path.is_file(), path.name)):
        init = path / "__init__.py" if path.is_dir() else path
        if init.suffix != ".py" or (path.is_dir() and not init.exists()):
            continue
        name = f"{indent}{path.name}{'/' * path.is_dir()}"
        yield f"{name:<34}{_first_sentence(init)}".rstrip()
        if path.is_dir():
            yield from _lines(path, indent + "  ")


@cache
def syntax(path: Path) -> ast.Module:
    """What a file says, parsed once for all who look at it."""
    return ast.parse(path.read_text(encoding="utf-8"))


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(syntax(path)) or ""
    return " ".join(text.split("\n\n")[0].split())


def with_tree(text: str) -> str:
    """A page with the tree of today between its two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tree() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(with_tree(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
