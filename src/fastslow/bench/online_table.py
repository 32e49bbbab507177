"""The results of `fastslow bench online` as two tables: at the end, and on the way there."""

from collections.abc import Iterator, Mapping
from typing import Any


def as_markdown(found: Mapping[str, Any]) -> str:
    """Both tables."""
    return "\n".join([*_ends(found), "", *_curves(found)]) + "\n"


def _ends(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "| method | setting | reward | reverse KL (nats) | beats the base | tokens | answers | "
        "against | reward more | KL ratio |"
    )
    yield "|---" * 10 + "|"
    for name, row in found["methods"].items():
        setting = ", ".join(f"{key} {value}" for key, value in row["setting"].items())
        end = row["end"]
        cells = [
            name, setting, _cell(end["reward"]), _cell(end["reverse_kl"]), _cell(end["win_rate"]),
            f"{end['mean_length']['mean']:.0f}", f"{end['answers']['mean']:,.0f}",
            row.get("against", ""), _cell(row.get("reward_difference")), _cell(row.get("kl_ratio")),
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _curves(found: Mapping[str, Any]) -> Iterator[str]:
    """A line a moment, as answers and seconds differ from method to method."""
    yield "| method | answers | seconds | reward | reverse KL (nats) |"
    yield "|---" * 5 + "|"
    for name, row in found["methods"].items():
        for point in row["curve"]:
            numbers = [
                f"{point['answers']['mean']:,.0f}", f"{point['seconds']['mean']:.0f}",
                f"{point['reward']['mean']:.2f}", f"{point['reverse_kl']['mean']:.2f}",
            ]  # fmt: skip
            yield f"| {name} | {' | '.join(numbers)} |"


def _cell(value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    if "low" not in value:
        return f"{value['mean']:.2f}"
    return f"{value['mean']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
