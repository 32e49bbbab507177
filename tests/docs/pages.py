"""The pages of the documentation, and the blocks of code in them with what comments say of each.

A comment directly above a block says how the tests take it. Without one, a block of commands or
Python is run, and one of YAML that begins with `# fastslow train NAME.yaml ...` is trained.

    <!-- not run: needs two GPUs -->         its commands are checked, but not run, and why
    <!-- with: train.max_steps=4 -->         settings added to its recipes, so that it takes seconds
    <!-- first: mkdir rows; cp a rows/ -->   commands that go before it
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("bash", "console")
PYTHON_PAGE = ROOT / "docs" / "python.md"
"""tests/api runs its blocks of Python, and compares what they print."""
RECIPE_VERBS = ("train", "train-reward", "validate", "serve", "learn", "prompts", "judge")
"""Verbs of `fastslow` that take `section.key=value`."""
BLOCK = re.compile(
    r"(?P<marks>(?:^<!--[^\n]*-->\n)*)^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
MARK = re.compile(r"^<!-- (not run|with|first): (.*) -->$", re.M)
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether it is run with the others of its page."""
        if "not run" in self.marks:
            return False
        is_recipe = self.language == "yaml" and self.text.startswith("# fastslow ")
        is_python = self.language == "python" and self.page != PYTHON_PAGE
        return self.language in SHELL or is_recipe or is_python

    @property
    def script(self) -> str:
        """The commands of a block of shell; a console shows them behind `$` amid their output."""
        if self.language != "console":
            return self.text
        return "".join(part for is_command, part in self._console() if is_command)

    @property
    def shown(self) -> list[str]:
        """The lines that a console shows of what its commands print."""
        if self.language != "console":
            return []
        return [part.rstrip() for is_command, part in self._console() if not is_command]

    def _console(self):
        continued = False
        for line in self.text.splitlines(keepends=True):
            is_command = continued or line.startswith("$ ")
            continued = is_command and line.endswith("\\\n")
            yield is_command, line.removeprefix("$ ") if is_command else line


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            dict(MARK.findall(match["marks"])),
        )
        for match in BLOCK.finditer(text)
    ]


def of(*languages: str) -> list[Block]:
    """The blocks of all pages in one of these languages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def spans(page: Path) -> list[tuple[int, str]]:
    """The lines and texts of the code within sentences and tables."""
    text = page.read_text(encoding="utf-8")
    text = BLOCK.sub(lambda match: "\n" * match[0].count("\n"), text)
    return [
        (text.count("\n", 0, match.start()) + 1, " ".join(match[1].replace("\\|", "|").split()))
        for match in SPAN.finditer(text)
    ]
