"""The page's first table as text: CSV, LaTeX, Markdown. Loads without plotly."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastslow.errors import ConfigError
from fastslow.reports.headline import Column, Share, columns_of, latest
from fastslow.reports.runs import read_runs

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip
"""What LaTeX would take as markup."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows of facts below their columns, not formatted yet; None where a fact is missing."""

    columns: list[Column]
    rows: list[tuple[list[str], list[Any]]]
    """The names of a run and of its domain, if any run has several, with the facts."""
    heads: list[str]
    """Headings of the names."""


def report_table(folders: Sequence[str | Path], style: str) -> str:
    """The runs in `folders` as one table, one row each, with the numbers of the page.

    A run over several domains has a row for their mean and one for each. Accuracies and win rates
    have their 95 % intervals.

    Args:
        folders: run folders.
        style: `csv`, with exact numbers and with columns for the intervals; `latex`, a booktabs
            tabular; `markdown`.

    Raises StateError for a folder that is not a run, ConfigError for another style.
    """
    if style not in STYLES:
        raise ConfigError(f"format: got {style!r}; allowed are {', '.join(STYLES)}")
    return STYLES[style](_facts([Path(folder) for folder in folders]))


def _facts(folders: Sequence[Path]) -> Facts:
    runs = read_runs(folders)
    columns = columns_of(runs)
    several = any(run.retention for run in runs)
    rows: list[tuple[list[str], list[Any]]] = []
    for run in runs:
        facts = [column.find(run, latest(run)) for column in columns]
        rows.append(([run.label, "mean" if run.retention else ""], facts))
        if run.retention:
            for name, measured in zip(run.retention.measured, run.retention.after[-1], strict=True):
                domain_facts = [None if c.of_run else c.find(run, measured) for c in columns]
                rows.append(([run.label, name], domain_facts))
    used = [i for i in range(len(columns)) if any(facts[i] is not None for _, facts in rows)]
    names = 2 if several else 1
    return Facts(
        [columns[i] for i in used],
        [(heads[:names], [facts[i] for i in used]) for heads, facts in rows],
        ["run", "domain"][:names],
    )


def _csv(facts: Facts) -> str:
    """CSV with exact numbers; a share takes three columns, with the ends of its interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    shares = [
        any(isinstance(values[i], Share) for _, values in facts.rows)
        for i in range(len(facts.columns))
    ]
    heads = list(facts.heads)
    for column, share in zip(facts.columns, shares, strict=True):
        # Seconds are a number here, not words.
        title = "wall time (s)" if column.title == "wall time" else column.title
        heads += [title, f"{title} low", f"{title} high"] if share else [title]
    writer.writerow(heads)
    for names, values in facts.rows:
        cells: list[Any] = [_not_a_formula(name) for name in names]
        for value, share in zip(values, shares, strict=True):
            cells += _exact(value) if share else ["" if value is None else value]
        writer.writerow(cells)
    return text.getvalue()


def _exact(share: Share | None) -> list[Any]:
    if share is None:
        return ["", "", ""]
    return [share.value, *(share.bounds or ("", ""))]


def _not_a_formula(name: str) -> str:
    """The name, quoted so that a spreadsheet takes it as text."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _markdown(facts: Facts) -> str:
    def cell(text: str) -> str:
        return (
            text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
        )

    lines = [[cell(text) for text in line] for line in _lines(facts, "–")]
    rule = "|---" * len(facts.heads) + "|---:" * len(facts.columns) + "|"
    head, *rows = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, rule, *rows]) + "\n"


def _latex(facts: Facts) -> str:
    def cell(text: str) -> str:
        plain = "".join(LATEX.get(mark, mark) for mark in text.replace("\n", " "))
        # A minus is not a hyphen, and a range takes a dash.
        signed = re.sub(r"^([+-])(?=\d)", r"$\1$", plain)
        # The command that ends the previous line would take it as its argument.
        signed = re.sub(r"^(?=[*[])", "{}", signed)
        return re.sub(r"\((\S+) to (\S+)\)", r"(\1--\2)", signed)

    head, *rows = (" & ".join(cell(text) for text in line) + r" \\" for line in _lines(facts, "--"))
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            f"\\begin{{tabular}}{{{'l' * len(facts.heads)}{'r' * len(facts.columns)}}}",
            "\\toprule", head, "\\midrule", *rows, "\\bottomrule", "\\end{tabular}", "",
        ]
    )  # fmt: skip


def _lines(facts: Facts, absent: str) -> Iterator[list[str]]:
    yield [*facts.heads, *(column.title for column in facts.columns)]
    for names, values in facts.rows:
        cells = [
            absent if value is None else column.write(value)
            for column, value in zip(facts.columns, values, strict=True)
        ]
        yield [*names, *cells]


STYLES: Mapping[str, Callable[[Facts], str]] = {
    "csv": _csv,
    "latex": _latex,
    "markdown": _markdown,
}
