"""The results of a sweep as a Markdown table: one row per cell, the best in bold."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastslow.bench.table import shown

TITLES = {
    "accuracy": "held-out accuracy", "loss": "loss", "reward": "judge score",
    "win_rate": "win rate vs base", "reverse_kl": "reverse KL (nats)",
    "mean_length": "answer length (tokens)",
}  # fmt: skip


def as_markdown(found: Mapping[str, Any]) -> str:
    """The table, and what its intervals are."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    cells, by = found["cells"], found["by"]
    keys = [*cells[0]["settings"]]
    seeds = len(cells[0]["seeds"])
    measured = [cell for cell in cells if "error" not in cell]
    metrics = [by, *(key for key in TITLES if key != by and all(key in cell for cell in measured))]
    behind = ["behind the best"] if len(cells) > 1 else []
    last = [key.rpartition(".")[2] for key in keys]
    heads = last if len(set(last)) == len(last) else keys
    titles = [*heads, TITLES[by], *behind, *(TITLES[key] for key in metrics[1:])]
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for place, cell in enumerate(cells):
        row = [_text(cell["settings"][key]) for key in keys]
        if "error" in cell:
            row += ["diverged", *[""] * (len(titles) - len(row) - 1)]
            yield f"| {' | '.join(row)} |"
            continue
        row.append(shown(cell[by], form=".3f"))
        if behind:
            row.append(shown(cell["behind"]) if "behind" in cell else "best")
        row += [shown(cell[key], form=".3f") for key in metrics[1:]]
        bold = place == found["best"]
        yield f"| {' | '.join(f'**{text}**' if bold else text for text in row)} |"
    for cell in cells:
        if "error" in cell:
            settings = ", ".join(f"{key}={value}" for key, value in cell["settings"].items())
            yield f"\n{settings}, {cell['error']}"
    yield ""
    if seeds > 1:
        yield (
            f"Means over {seeds} seeds with Student's 95 % intervals over them, which do not hold "
            "the error of the held-out pairs."
        )
    else:
        yield "One seed: the interval of an accuracy is of its held-out pairs, not of training."


def _text(value: str) -> str:
    return value.replace("|", "\\|")
