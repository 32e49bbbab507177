"""The results of `fastslow bench online` as tables: at equal KL, at the end, during training."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastslow.bench.online_results import BUDGETS


def as_markdown(found: Mapping[str, Any]) -> str:
    """All tables."""
    parts = [_at_equal_kl(found), _ends(found), _by_round(found), _curves(found)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _at_equal_kl(found: Mapping[str, Any]) -> Iterator[str]:
    gains = "".join(f" gain at {budget:g} nats |" for budget in BUDGETS)
    more = "".join(f" more at {budget:g} |" for budget in BUDGETS)
    yield f"| method |{gains} against |{more}"
    yield "|---" * (2 + 2 * len(BUDGETS)) + "|"
    for name, row in found["methods"].items():
        cells = [name, *(_cell(row[f"gain@{budget:g}"]) for budget in BUDGETS)]
        cells.append(row.get("against", ""))
        cells += [_cell(row.get(f"difference@{budget:g}")) for budget in BUDGETS]
        yield f"| {' | '.join(cells)} |"


def _ends(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "| method | setting | reward | reverse KL (nats) | beats the base | tokens | answers | "
        "failed | against | reward more | KL ratio |"
    )
    yield "|---" * 11 + "|"
    for name, row in found["methods"].items():
        setting = ", ".join(f"{key} {value}" for key, value in row["setting"].items())
        end = row["end"]
        cells = [
            name, setting, _cell(end["reward"]), _cell(end["reverse_kl"]), _cell(end["win_rate"]),
            f"{end['mean_length']['mean']:.0f}", f"{end['answers']['mean']:,.0f}",
            str(row["failed"]), row.get("against", ""), _cell(row.get("reward_difference")),
            _cell(row.get("kl_ratio")),
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _by_round(found: Mapping[str, Any]) -> Iterator[str]:
    """For methods that learn in rounds, the reward minus the other method's."""
    yield "| method | against | after round | reward more | more than after one round more |"
    yield "|---" * 5 + "|"
    for name, row in found["methods"].items():
        less = [*row.get("a_round_less", []), None]
        for place, (same, other) in enumerate(zip(row.get("by_round", []), less, strict=False), 1):
            yield f"| {name} | {row['against']} | {place} | {_cell(same)} | {_cell(other)} |"


def _curves(found: Mapping[str, Any]) -> Iterator[str]:
    """A line per moment, as answers and seconds differ between methods."""
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
