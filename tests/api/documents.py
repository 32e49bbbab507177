"""The blocks of docs/python.md and the cells of the notebook, run one after the other.

`python tests/api/documents.py` runs them and writes what they print below them.
"""

import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "examples" / "preferences.ipynb"
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.S)
NUMBER = re.compile(r"\d+\.\d+")


def run_all(blocks):
    """What each block prints, run in a new folder with the names of those before."""
    names, printed, before = {"__name__": "__main__"}, [], Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, block in enumerate(blocks, 1):
                out = io.StringIO()
                with contextlib.redirect_stdout(out):
                    exec(compile(block, f"block {number}", "exec"), names)
                printed.append(out.getvalue())
        finally:
            os.chdir(before)
    return printed


def page_blocks(text):
    """The code and the shown output of each block."""
    return [(code, shown or "") for code, shown in BLOCK.findall(text)]


def with_output(text, printed):
    """The page with what its blocks print."""
    outputs = iter(printed)

    def filled(match):
        out = next(outputs)
        return f"```python\n{match[1]}```\n" + (f"\n```text\n{out}```\n" if out else "")

    return BLOCK.sub(filled, text)


def cells_of(notebook):
    """The code cells of a notebook."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def alike(first, second):
    """Whether two outputs differ in the last digits of decimals at most."""
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (first, second)]
    close = len(numbers[0]) == len(numbers[1]) and all(
        abs(a - b) <= 0.05 for a, b in zip(*numbers, strict=True)
    )
    return close and NUMBER.sub("#", first) == NUMBER.sub("#", second)


def main():
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_output(text, run_all([c for c, _ in page_blocks(text)])), encoding="utf-8")
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = cells_of(notebook)
    for cell, out in zip(cells, run_all(["".join(c["source"]) for c in cells]), strict=True):
        stream = {"name": "stdout", "output_type": "stream", "text": out.splitlines(keepends=True)}
        cell["outputs"] = [stream] if out else []
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
